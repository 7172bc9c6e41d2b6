/* fuzz_receiver.c — a stream of frames through a receiver: cut anywhere, at any level, the same bytes
 * must give what the model says: the same messages, errors, offsets and counters.
 *
 * An input is lines of text, so that it can be written by hand. The first line chooses: "server"
 * that role, "tight" small limits, "few" of control frames, "owner" checks views by itself, "raw"
 * that all behind the line is the stream as it is. Otherwise every further line is a frame: t text,
 * b binary, f first fragment of a text, g of a binary, m middle one, e last one, p ping, q pong,
 * c close, then the payload; any other first byte: the rest of the line is raw bytes. */
#include "conversation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int holds(const uint8_t *p, size_t n, const char *word) {
    size_t len = strlen(word);
    for (size_t i = 0; i + len <= n; i++)
        if (memcmp(p + i, word, len) == 0) return 1;
    return 0;
}

static void put_line(bytes *stream, const uint8_t *p, size_t n, const uint8_t *mask) {
    static const struct {
        char name;
        uint8_t first;
    } FRAMES[] = {{'t', 0x81}, {'b', 0x82}, {'f', 0x01}, {'g', 0x02}, {'m', 0x00},
                  {'e', 0x80}, {'p', 0x89}, {'q', 0x8A}, {'c', 0x88}};
    if (n == 0) return;
    for (size_t i = 0; i < sizeof FRAMES / sizeof *FRAMES; i++)
        if (p[0] == (uint8_t)FRAMES[i].name) {
            put_frame(stream, FRAMES[i].first, mask, p + 1, n - 1);
            return;
        }
    put(stream, p + 1, n - 1);
}

static uint64_t hash(const uint8_t *p, size_t n) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static options options_of(const uint8_t *p, size_t n) {
    options o = usual(holds(p, n, "server") ? CW_SERVER : CW_CLIENT);
    int is_tight = holds(p, n, "tight");
    o.checks_text = !holds(p, n, "owner");
    o.rx_capacity = is_tight ? CW_RECEIVER_RX_MIN : 512;
    o.small_size = is_tight ? 16 : 128;
    o.message_max = is_tight ? 300 : 2048;
    o.fragments_max = is_tight ? 4 : 64;
    o.controls_max = holds(p, n, "few") ? 3 : 0;
    o.level = CW_LEVEL_BASE;
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t MASK[4] = {0x37, 0xFA, 0x21, 0x3D};
    const uint8_t *first = size ? memchr(data, '\n', size) : NULL;
    size_t head = first ? (size_t)(first - data) : size, at = head + 1;
    options o = options_of(data, head);
    bytes stream = {0};
    dice d = {hash(data, size)};
    outcome want;
    if (at < size && holds(data, head, "raw")) {
        put(&stream, data + at, size - at);
        at = size;
    }
    while (at < size) {
        const uint8_t *stop = memchr(data + at, '\n', size - at);
        size_t n = stop ? (size_t)(stop - data) - at : size - at;
        put_line(&stream, data + at, n, o.role == CW_SERVER ? MASK : NULL);
        at += n + 1;
    }
    want = expected_of(&o, stream.p, stream.n, NULL);
    check_note("whole");
    check_whole(&o, &stream, &want);
    o.level = (cw_level)below(&d, LEVELS);
    check_note("level %d", (int)o.level);
    check_diced(&o, &stream, &d, &want);
    if (stream.n < 200) check_steps(&o, &stream, 1, &want);
    bytes_free(&stream);
    bytes_free(&want.log);
    return 0;
}

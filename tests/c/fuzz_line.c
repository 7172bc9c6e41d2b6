/* fuzz_line.c — a stream of frames through a line: cut anywhere, at any level, with templates or
 * without, the same bytes must give the same records, signals, inbox, counters and errors.
 *
 * An input is lines of text, so that it can be written by hand. The first line chooses: "okx" that
 * layout, "server" that role, "new" unknown symbols as instruments, "small" a small buffer. Every
 * further line is a frame: t text, b binary, f first fragment, m middle one, e last one, p ping,
 * q pong, c close, then the payload; any other first byte: the rest of the line is raw bytes. */
#include "session.h"

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
    } FRAMES[] = {{'t', 0x81}, {'b', 0x82}, {'f', 0x01}, {'m', 0x00},
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t MASK[4] = {0x37, 0xFA, 0x21, 0x3D};
    static session whole, cut;
    const uint8_t *first = memchr(data, '\n', size);
    size_t head = first ? (size_t)(first - data) : size, at = head + 1;
    options o = usual(holds(data, head, "okx") ? &OKX : &SPOT);
    bytes stream = {0};
    dice d = {hash(data, size)};
    o.role = holds(data, head, "server") ? CW_SERVER : CW_CLIENT;
    o.takes_unknown = holds(data, head, "new");
    o.rx_capacity = holds(data, head, "small") ? 256 : 1024;
    o.message_max = 2048;
    while (at < size) {
        const uint8_t *stop = memchr(data + at, '\n', size - at);
        size_t n = stop ? (size_t)(stop - data) - at : size - at;
        put_line(&stream, data + at, n, o.role == CW_SERVER ? MASK : NULL);
        at += n + 1;
    }
    o.level = CW_LEVEL_BASE;
    o.predicts = 0;
    session_open(&whole, &o);
    receive(&whole, stream.p, stream.n);
    o.level = (cw_level)below(&d, LEVELS);
    o.predicts = below(&d, 4) != 0;
    o.batch = 1 + below(&d, 4);
    o.signals = 4u << below(&d, 3);
    o.inbox_capacity = 4096 + 4 * below(&d, 64);
    session_open(&cut, &o);
    for (at = 0; at < stream.n;) {
        size_t n = 1 + below(&d, below(&d, 2) ? 16 : 400);
        if (n > stream.n - at) n = stream.n - at;
        receive(&cut, stream.p + at, n);
        at += n;
    }
    check_note("level %d, predicts %d", (int)o.level, o.predicts);
    check_same(&whole, &cut);
    session_close(&whole);
    session_close(&cut);
    bytes_free(&stream);
    return 0;
}

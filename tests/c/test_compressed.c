/* test_compressed.c — a receiver with permessage-deflate: the same bytes cut at every place, and
 * every request to the heap refused in turn. */
#include "crosswire/receiver.h"
#include "packed.h"

enum { RX = 512, SMALL = 600, MAX = 5000, ALARMING = 100000 };

static const uint8_t MASK[4] = {0x37, 0xFA, 0x21, 0x3D};

/* What a receiver said of a stream. */
typedef struct story {
    bytes log; /* opcode, length and bytes of each message */
    int code;
    uint64_t at;
} story;

typedef struct owner {
    ledger ledger;
    cw_receiver receiver;
    void *rx, *small;
    int made; /* what cw_receiver_take_deflate said */
} owner;

static void owner_open_for(owner *self, uint32_t message_max, cw_role role, int keeps_context,
                           long dry_at) {
    cw_receiver_terms terms = {.role = role,
                               .checks_text = 1,
                               .rx = malloc(cw_buffer_size(RX)),
                               .rx_capacity = RX,
                               .small_size = SMALL,
                               .small = malloc(cw_buffer_size(SMALL)),
                               .message_max = message_max,
                               .fragments_max = 20};
    self->rx = terms.rx;
    self->small = terms.small;
    terms.heap = *ledger_lend(&self->ledger, dry_at);
    CHECK_EQ(cw_receiver_init(&self->receiver, cw_ops_for(cw_level_best()), &terms), CW_OK);
    cw_receiver_open(&self->receiver);
    self->made = cw_receiver_take_deflate(&self->receiver, 15, keeps_context);
}

static void owner_open(owner *self, cw_role role, int keeps_context, long dry_at) {
    owner_open_for(self, MAX, role, keeps_context, dry_at);
}

static void owner_close(owner *self) {
    cw_receiver_close(&self->receiver);
    ledger_is_settled(&self->ledger);
    free(self->rx);
    free(self->small);
}

static void receive(owner *self, const uint8_t *p, size_t n, story *out) {
    cw_message m;
    while (n && !out->code) {
        uint32_t room;
        uint8_t *to = cw_receiver_tail(&self->receiver, &room);
        uint32_t piece = n < room ? (uint32_t)n : room;
        if (!piece) return; /* behind a close */
        memcpy(to, p, piece);
        p += piece;
        n -= piece;
        CHECK_EQ(cw_receiver_commit(&self->receiver, piece), CW_OK);
        while ((out->code = cw_receiver_next(&self->receiver, 0, &m)) == CW_OK) {
            CHECK(m.len <= self->receiver.message_max);
            put(&out->log, &m.opcode, 1);
            put(&out->log, &m.len, sizeof m.len);
            put(&out->log, m.payload, m.len);
        }
        if (out->code == CW_NEED_MORE) out->code = CW_OK;
        else out->at = self->receiver.error.at;
    }
}

static void put_message(bytes *stream, cw_role role, uint8_t opcode, const bytes *packed,
                        size_t pieces) {
    const uint8_t *mask = role == CW_SERVER ? MASK : NULL;
    size_t step = packed->n / pieces + 1;
    for (size_t i = 0; i < pieces; i++) {
        size_t at = i * step, n = at + step < packed->n ? step : packed->n - at;
        uint8_t first = (uint8_t)((i ? 0 : 0x40 | opcode) | (i == pieces - 1 ? 0x80 : 0));
        put_frame(stream, first, mask, packed->p + at, n);
        if (i == 0 && pieces > 1) put_frame(stream, 0x89, mask, "ping", 4);
    }
}

/* Messages of every place: a view, small, beyond the small block, fragments, none; then one whose
 * last byte of text is bad where `is_bad`. */
static bytes stream_of(cw_role role, int keeps_context, int is_bad) {
    static const size_t SIZES[] = {5, 300, 3000, MAX, 0, 700};
    bytes stream = {0};
    z_stream *z = packer_of(-15, 6);
    put_frame(&stream, 0x81, role == CW_SERVER ? MASK : NULL, "plain", 5);
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES + (size_t)is_bad; i++) {
        size_t n = i < sizeof SIZES / sizeof *SIZES ? SIZES[i] : 900;
        uint8_t *text = malloc(n + 1);
        bytes packed;
        for (size_t k = 0; k < n; k++) text[k] = (uint8_t)('a' + (k * k + i) % 23);
        if (n == 900) text[n - 1] = 0xFF;
        packed = n ? pack_message(z, text, n) : (bytes){0};
        if (!n) put(&packed, "", 1);
        put_message(&stream, role, 0x01, &packed, 1 + i % 3);
        if (!keeps_context) deflateReset(z);
        bytes_free(&packed);
        free(text);
    }
    packer_free(z);
    return stream;
}

static story told(const bytes *stream, cw_role role, int keeps_context, size_t cut) {
    story out = {{0}, 0, 0};
    owner o;
    owner_open(&o, role, keeps_context, NEVER);
    CHECK_EQ(o.made, CW_OK);
    receive(&o, stream->p, cut, &out);
    if (!out.code) receive(&o, stream->p + cut, stream->n - cut, &out);
    CHECK(o.ledger.bytes_max <= cw_buffer_size(MAX) + 65536);
    owner_close(&o);
    return out;
}

static void test_every_cut_tells_the_same_story(void) {
    for (int way = 0; way < 8; way++) {
        cw_role role = way & 1 ? CW_SERVER : CW_CLIENT;
        bytes stream = stream_of(role, way >> 1 & 1, way >> 2);
        story whole = told(&stream, role, way >> 1 & 1, stream.n);
        CHECK_EQ(whole.code, way >> 2 ? CW_E_UTF8 : CW_OK);
        CHECK(whole.log.n > 9000);
        for (size_t cut = 0; cut < stream.n; cut++) {
            story other = told(&stream, role, way >> 1 & 1, cut);
            check_note("way %d, cut at %zu of %zu", way, cut, stream.n);
            CHECK_EQ(other.code, whole.code);
            CHECK_EQ(other.at, whole.at);
            CHECK_EQ(other.log.n, whole.log.n);
            CHECK_BYTES(other.log.p, whole.log.p, whole.log.n);
            bytes_free(&other.log);
        }
        bytes_free(&whole.log);
        bytes_free(&stream);
    }
}

static void test_one_byte_above_the_limit_is_too_big_however_it_is_cut(void) {
    for (int way = 0; way < 4; way++) {
        cw_role role = way & 1 ? CW_SERVER : CW_CLIENT;
        size_t n = MAX + (size_t)(way >> 1);
        uint8_t *text = calloc(n, 1);
        z_stream *z = packer_of(-15, 6);
        bytes packed = pack_message(z, text, n), stream = {0};
        uint64_t payload = role == CW_SERVER ? 6 : 2;
        CHECK(packed.n < 126);
        put_message(&stream, role, 0x02, &packed, 1);
        for (size_t cut = 0; cut <= stream.n; cut++) {
            story out = told(&stream, role, 1, cut);
            check_note("way %d, cut at %zu of %zu", way, cut, stream.n);
            CHECK_EQ(out.code, n > MAX ? CW_E_FRAME_TOO_BIG : CW_OK);
            CHECK_EQ(out.at, n > MAX ? payload : 0);
            CHECK_EQ(out.log.n, n > MAX ? 0 : n + 1 + sizeof(uint32_t));
            bytes_free(&out.log);
        }
        packer_free(z);
        bytes_free(&packed);
        bytes_free(&stream);
        free(text);
    }
}

static void test_every_request_to_the_heap_may_be_refused(void) {
    for (int way = 0; way < 4; way++) {
        cw_role role = way & 1 ? CW_SERVER : CW_CLIENT;
        int keeps_context = way >> 1, is_clean = 0;
        bytes stream = stream_of(role, keeps_context, 0);
        story whole = told(&stream, role, keeps_context, stream.n);
        long dry_at;
        for (dry_at = 0; !is_clean; dry_at++) {
            story out = {{0}, 0, 0};
            owner o;
            CHECK(dry_at < 50);
            check_note("way %d, block %ld is refused", way, dry_at);
            owner_open(&o, role, keeps_context, dry_at);
            if (o.made == CW_OK) {
                receive(&o, stream.p, stream.n, &out);
                is_clean = out.code == CW_OK;
                CHECK_EQ(out.log.n <= whole.log.n, 1);
                CHECK_BYTES(out.log.p, whole.log.p, out.log.n);
                if (is_clean) CHECK_EQ(out.log.n, whole.log.n);
                else CHECK_EQ(out.code, CW_E_MEMORY);
            } else {
                cw_message m;
                CHECK_EQ(o.made, CW_E_MEMORY);
                CHECK_EQ(cw_receiver_next(&o.receiver, 0, &m), CW_NEED_MORE); /* still usable */
            }
            bytes_free(&out.log);
            owner_close(&o);
        }
        CHECK(dry_at > 5); /* zlib's stream, its state, its window, and three large blocks */
        bytes_free(&whole.log);
        bytes_free(&stream);
    }
}

static void test_what_expands_a_hundred_times_is_counted(void) {
    static const size_t SIZES[] = {CW_RATIO_ALARM_MIN - 1, CW_RATIO_ALARM_MIN, ALARMING, ALARMING};
    static const uint64_t ALARMS[] = {0, 1, 2, 2}; /* the last one is noise */
    uint8_t *text = calloc(ALARMING, 1);
    uint32_t chance = 1;
    story out = {{0}, 0, 0};
    owner o;
    owner_open_for(&o, ALARMING, CW_CLIENT, 0, NEVER);
    for (size_t i = 0; i < 4; i++) {
        z_stream *z = packer_of(-15, 6);
        bytes packed, stream = {0};
        for (size_t k = 0; i == 3 && k < ALARMING; k++)
            text[k] = (uint8_t)((chance = chance * 1664525u + 1013904223u) >> 24);
        packed = pack_message(z, text, SIZES[i]);
        put_message(&stream, CW_CLIENT, 0x02, &packed, 1 + i % 3);
        receive(&o, stream.p, stream.n, &out);
        CHECK_EQ(out.code, CW_OK);
        CHECK_EQ(o.receiver.ratio_alarms, ALARMS[i]);
        packer_free(z);
        bytes_free(&packed);
        bytes_free(&stream);
    }
    owner_close(&o);
    bytes_free(&out.log);
    free(text);
}

int main(void) {
    RUN(test_every_cut_tells_the_same_story);
    RUN(test_one_byte_above_the_limit_is_too_big_however_it_is_cut);
    RUN(test_every_request_to_the_heap_may_be_refused);
    RUN(test_what_expands_a_hundred_times_is_counted);
    return 0;
}

/* test_receiver.c — frames to messages by the sections of RFC 6455, however the stream is cut. */
#include "conversation.h"

static const uint8_t MASK[4] = {0x37, 0xFA, 0x21, 0x3D};

static const uint8_t *mask_of(const options *o) { return o->role == CW_SERVER ? MASK : NULL; }

/* ---- saying what a conversation must come to ---- */

/* The same at all levels, cut at every position and byte by byte; and the model agrees. */
static void check_every_cut(const options *o, const bytes *stream, const outcome *want) {
    outcome model = expected_of(o, stream->p, stream->n, NULL);
    options at_level = *o;
    check_note("the model");
    check_outcome(&model, want);
    bytes_free(&model.log);
    for (at_level.level = CW_LEVEL_BASE; at_level.level <= CW_LEVEL_AVX512; at_level.level++) {
        check_note("whole, level %d", (int)at_level.level);
        check_whole(&at_level, stream, want);
        check_steps(&at_level, stream, 1, want);
        check_steps(&at_level, stream, 7, want);
    }
    for (size_t cut = 1; cut < stream->n; cut++) check_cut(o, stream, cut, want);
    check_note("%s", "");
}

static void check_says(const options *o, const void *p, size_t n, const char *log, size_t log_n,
                       int code, uint64_t at) {
    bytes stream = {0};
    outcome want = {.code = code, .at = at};
    peer s;
    put(&stream, p, n);
    put(&want.log, log, log_n);
    peer_open(&s, o);
    receive(&s, stream.p, stream.n, 0);
    want.is_closed = s.said.is_closed;
    want.frames = s.said.frames;
    want.controls = s.said.controls;
    check_outcome(&s.said, &want);
    peer_close(&s);
    check_every_cut(o, &stream, &want);
    bytes_free(&stream);
    bytes_free(&want.log);
}

/* Literals: the stream, then what is said of it. */
#define SAYS(o, stream, log)                                                                    \
    check_says(o, stream, sizeof(stream) - 1, log, sizeof(log) - 1, 0, 0)
#define BREAKS(o, stream, log, code, at)                                                        \
    check_says(o, stream, sizeof(stream) - 1, log, sizeof(log) - 1, code, at)

/* A stream that was made, against the model alone. */
static void check_stream(const options *o, const bytes *stream, int code) {
    outcome want = expected_of(o, stream->p, stream->n, NULL);
    dice d = {stream->n};
    CHECK_EQ(want.code, code);
    check_whole(o, stream, &want);
    if (stream->n < 700) {
        check_every_cut(o, stream, &want);
    } else {
        check_steps(o, stream, 1, &want);
        for (int i = 0; i < 20; i++) check_diced(o, stream, &d, &want);
    }
    bytes_free(&want.log);
}

static bytes letters(size_t n) {
    bytes text = {0};
    for (size_t i = 0; i < n; i++) put(&text, &(uint8_t){(uint8_t)('a' + i % 26)}, 1);
    return text;
}

static void put_letters(bytes *stream, const options *o, uint8_t first, size_t n) {
    bytes text = letters(n);
    put_frame(stream, first, mask_of(o), text.p, n);
    bytes_free(&text);
}

/* ---- sizes ---- */

static void test_message_of_the_limit_and_of_one_byte_more(void) {
    static const uint32_t LIMITS[] = {0, 1, 125, 126, 127, 128, 300, 511, 700, 1100};
    for (int role = 0; role < 2; role++)
        for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++)
            for (uint32_t more = 0; more < 2; more++)
                for (uint32_t first = 0; first < 2; first++) {
                    options o = usual((cw_role)role);
                    bytes stream = {0};
                    uint32_t n = LIMITS[i] + more, half = n / 3;
                    o.message_max = LIMITS[i];
                    put_letters(&stream, &o, 0x89, 125); /* is no message */
                    if (first) {
                        put_letters(&stream, &o, 0x01, half);
                        put_letters(&stream, &o, 0x00, half);
                        put_letters(&stream, &o, 0x80, n - 2 * half);
                    } else {
                        put_letters(&stream, &o, 0x82, n);
                    }
                    put_letters(&stream, &o, 0x81, 0);
                    check_note("limit %u, %u more, fragments %u", LIMITS[i], more, first);
                    check_stream(&o, &stream, more ? CW_E_FRAME_TOO_BIG : 0);
                    bytes_free(&stream);
                }
}

static void test_too_big_a_length_breaks_at_the_length(void) {
    options o = usual(CW_CLIENT);
    o.message_max = 100;
    BREAKS(&o, "\x81\x65", "", CW_E_FRAME_TOO_BIG, 1);
    BREAKS(&o, "\x81\x7e\x00\x7e", "", CW_E_FRAME_TOO_BIG, 2);
    BREAKS(&o, "\x01\x01x\x80\x64", "", CW_E_FRAME_TOO_BIG, 4);
    o.message_max = 300;
    BREAKS(&o, "\x01\x01x\x80\x7e\x01\x2c", "", CW_E_FRAME_TOO_BIG, 5);
    o.role = CW_SERVER;
    BREAKS(&o, "\x81\xfe\x01\x2d\1\2\3\4", "", CW_E_FRAME_TOO_BIG, 2);
}

static void test_frames_of_every_size_around_the_receive_buffer(void) {
    for (int role = 0; role < 2; role++)
        for (uint32_t rx = 256; rx <= 258; rx++)
            for (size_t n = rx - 14; n <= rx + 2; n++) {
                options o = usual((cw_role)role);
                bytes stream = {0};
                o.rx_capacity = rx;
                put_letters(&stream, &o, 0x81, 1);
                put_letters(&stream, &o, 0x81, n);
                put_letters(&stream, &o, 0x89, 2);
                check_note("%zu bytes in %u, role %d", n, rx, role);
                check_stream(&o, &stream, 0);
                bytes_free(&stream);
            }
}

/* A frame that just fits is a view, and one that does not is put together. */
static void test_frame_of_exactly_the_receive_buffer_is_a_view(void) {
    for (size_t n = 507; n <= 509; n++) {
        options o = usual(CW_CLIENT);
        bytes stream = {0};
        peer s;
        put_letters(&stream, &o, 0x81, n);
        peer_open(&s, &o);
        receive(&s, stream.p, stream.n, 0);
        CHECK(strncmp((char *)s.said.log.p, n <= 508 ? "text@4[" : "text[a", 6) == 0);
        CHECK_EQ(s.heap.made, n > 508);
        peer_close(&s);
        bytes_free(&stream);
    }
}

/* The owner of this test makes no room by itself, and never has to. */
static void test_there_is_room_whenever_all_that_came_is_taken(void) {
    options o = usual(CW_SERVER);
    bytes stream = {0};
    o.rx_capacity = CW_RECEIVER_RX_MIN;
    for (size_t n = 0; n < 240; n++) put_letters(&stream, &o, n % 9 ? 0x81 : 0x82, n);
    check_stream(&o, &stream, 0);
    bytes_free(&stream);
}

/* ---- 8.1 text ---- */

/* The owner's check and the receiver's own come to the same, whichever is first. */
static void test_owner_that_checks_views_itself_comes_to_the_same(void) {
    options o = usual(CW_CLIENT);
    o.checks_text = 0;
    SAYS(&o, "\x81\x01x\x82\x01\xff", "text@2[x] binary@5[\xff]");
    BREAKS(&o, "\x81\x01x\x81\x02y\xff\x81\x00", "text@2[x]", CW_E_UTF8, 6);
    BREAKS(&o, "\x81\x02y\xc3", "", CW_E_UTF8, 4);
    BREAKS(&o, "\x01\x01x\x80\x01\xff", "", CW_E_UTF8, 5);
    BREAKS(&o, "\x81\x7e\x10\x00x\xff", "", CW_E_UTF8, 5);
    o.role = CW_SERVER;
    BREAKS(&o, "\x81\x81\x01\x00\x00\x00\xfe", "", CW_E_UTF8, 6);
}

static void test_whole_view_is_handed_out_unchecked_to_an_owner_that_checks(void) {
    options o = usual(CW_CLIENT);
    cw_message m;
    peer s;
    o.checks_text = 0;
    peer_open(&s, &o);
    give(&s, (const uint8_t *)"\x81\x02\xff\xfe", 4);
    CHECK_EQ(cw_receiver_next(&s.receiver, 0, &m), CW_OK);
    CHECK_EQ(m.is_view, 1);
    CHECK_BYTES(m.payload, "\xff\xfe", 2);
    peer_close(&s);
}

/* ---- 7.4.1 what is answered ---- */

static void test_every_error_of_a_receiver_has_its_close_code(void) {
    static const struct {
        int code;
        uint32_t answer;
    } CASES[] = {{CW_E_FRAME_RESERVED_BITS, 1002},
                 {CW_E_FRAME_OPCODE, 1002},
                 {CW_E_FRAME_CONTROL_FRAGMENTED, 1002},
                 {CW_E_FRAME_CONTROL_TOO_LONG, 1002},
                 {CW_E_FRAME_LENGTH_FORM, 1002},
                 {CW_E_FRAME_MASKED, 1002},
                 {CW_E_FRAME_UNMASKED, 1002},
                 {CW_E_FRAME_CONTINUATION, 1002},
                 {CW_E_FRAME_CLOSE, 1002},
                 {CW_E_UTF8, 1007},
                 {CW_E_FRAME_FLOOD, 1008},
                 {CW_E_FRAME_TOO_BIG, 1009},
                 {CW_E_FRAME_FRAGMENTS, 1009},
                 {CW_E_MEMORY, 1011}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        check_note("code %d", CASES[i].code);
        CHECK_EQ(cw_close_code_for(CASES[i].code), CASES[i].answer);
    }
}

/* ---- control frames a second ---- */

static int ping_at(peer *s, int64_t mono) {
    receive(s, "\x89\x00", 2, mono);
    return s->said.code;
}

static peer opened_with(uint32_t controls_max) {
    options o = usual(CW_CLIENT);
    peer s;
    o.controls_max = controls_max;
    peer_open(&s, &o);
    s.receiver.heap.user = NULL; /* the peer is copied; no message here needs the heap */
    return s;
}

static void test_stamps_that_run_backwards_neither_overflow_nor_close_the_door_for_ever(void) {
    static const int64_t STAMPS[] = {0, INT64_MAX, INT64_MIN, -1, INT64_MAX, 0, INT64_MIN, 1};
    peer s = opened_with(3);
    for (size_t i = 0; i < sizeof STAMPS / sizeof *STAMPS; i++)
        CHECK_EQ(ping_at(&s, STAMPS[i]), 0);
    peer_close(&s);
    s = opened_with(2);
    CHECK_EQ(ping_at(&s, INT64_MAX - 1), 0);
    CHECK_EQ(ping_at(&s, INT64_MAX), 0);
    CHECK_EQ(ping_at(&s, INT64_MAX), CW_E_FRAME_FLOOD);
    peer_close(&s);
}

/* ---- the first error is the last ---- */

static void test_owner_breaks_the_connection_once(void) {
    options o = usual(CW_CLIENT);
    peer s;
    cw_message m;
    peer_open(&s, &o);
    give(&s, (const uint8_t *)"\x81\x01\xff\x81\x01y", 6);
    CHECK_EQ(cw_receiver_fail(&s.receiver, CW_E_UTF8, 2), CW_E_UTF8);
    CHECK_EQ(cw_receiver_next(&s.receiver, 0, &m), CW_E_UTF8);
    CHECK_EQ(cw_receiver_fail(&s.receiver, CW_E_FRAME_FLOOD, 77), CW_E_UTF8);
    CHECK(cw_receiver_commit(&s.receiver, UINT32_MAX) != CW_OK);
    CHECK_EQ(s.receiver.error.code, CW_E_UTF8);
    CHECK_EQ(s.receiver.error.at, 2);
    CHECK_EQ(cw_receiver_next(&s.receiver, 0, &m), CW_E_UTF8);
    peer_close(&s);
}

static void test_commit_beyond_the_tail_takes_nothing(void) {
    static const uint32_t TOO_MUCH[] = {510, 511, 1000, 0x7FFFFFFF, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof TOO_MUCH / sizeof *TOO_MUCH; i++) {
        options o = usual(CW_CLIENT);
        cw_message m;
        peer s;
        peer_open(&s, &o);
        CHECK_EQ(give(&s, (const uint8_t *)"\x81\x00\x81", 3), 3);
        CHECK_EQ(cw_receiver_commit(&s.receiver, TOO_MUCH[i]), CW_E_FRAME_TOO_BIG);
        CHECK_EQ(s.receiver.rx.received, 3);
        CHECK_EQ(cw_receiver_next(&s.receiver, 0, &m), CW_E_FRAME_TOO_BIG);
        CHECK_EQ(s.receiver.error.code, CW_E_FRAME_TOO_BIG);
        cw_receiver_open(&s.receiver);
        receive(&s, "\x81\x01x", 3, 0);
        CHECK_EQ(s.said.code, 0);
        peer_close(&s);
    }
}

/* ---- life ---- */

/* Misused, it may say anything, but must not write where the block was. */
static void test_receiver_that_is_closed_and_not_opened_writes_nowhere(void) {
    for (uint8_t first = 0; first < 2; first++) {
        options o = usual(CW_CLIENT);
        bytes stream = {0};
        peer s;
        if (first) put_letters(&stream, &o, 0x02, 1000);
        else put_letters(&stream, &o, 0x82, 3000);
        put_letters(&stream, &o, 0x00, 1000);
        put_letters(&stream, &o, 0x80, 1000);
        peer_open(&s, &o);
        receive(&s, stream.p, 500, 0);
        CHECK(s.heap.block != NULL);
        cw_receiver_close(&s.receiver);
        receive(&s, stream.p + 500, stream.n - 500, 0);
        CHECK(s.said.code != 0);
        peer_close(&s);
        bytes_free(&stream);
    }
}

/* ---- memory that is not there ---- */

static void put_hungry(bytes *stream, const options *o) {
    put_letters(stream, o, 0x81, 10);
    put_letters(stream, o, 0x01, 200);
    put_letters(stream, o, 0x89, 3);
    put_letters(stream, o, 0x00, 400);
    put_letters(stream, o, 0x80, 900);
    put_letters(stream, o, 0x82, 2000);
    put_letters(stream, o, 0x01, 20);
    put_letters(stream, o, 0x00, 3000);
    put_letters(stream, o, 0x80, 1);
    put_letters(stream, o, 0x81, 5);
}

int main(void) {
    RUN(test_message_of_the_limit_and_of_one_byte_more);
    RUN(test_too_big_a_length_breaks_at_the_length);
    RUN(test_frames_of_every_size_around_the_receive_buffer);
    RUN(test_frame_of_exactly_the_receive_buffer_is_a_view);
    RUN(test_there_is_room_whenever_all_that_came_is_taken);
    RUN(test_owner_that_checks_views_itself_comes_to_the_same);
    RUN(test_whole_view_is_handed_out_unchecked_to_an_owner_that_checks);
    RUN(test_every_error_of_a_receiver_has_its_close_code);
    RUN(test_stamps_that_run_backwards_neither_overflow_nor_close_the_door_for_ever);
    RUN(test_owner_breaks_the_connection_once);
    RUN(test_commit_beyond_the_tail_takes_nothing);
    RUN(test_receiver_that_is_closed_and_not_opened_writes_nowhere);
    return 0;
}

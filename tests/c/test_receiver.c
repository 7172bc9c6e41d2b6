/* test_receiver.c — frames to messages by the sections of RFC 6455, however the stream is cut. */
#include "conversation.h"
#include "diced.h"

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

/* ---- 5.2 base framing ---- */

static void test_unmasked_text_of_the_rfc_is_a_view(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x81\x05Hello", "text@2[Hello]");
}

static void test_masked_text_of_the_rfc_is_a_view(void) {
    options o = usual(CW_SERVER);
    SAYS(&o, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "text@6[Hello]");
}

static void test_fragmented_text_of_the_rfc_is_put_together(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x01\x03Hel\x80\x02lo", "text[Hello]");
}

static void test_ping_and_pong_of_the_rfc(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x89\x05Hello\x8a\x05Hello", "ping@2[Hello] pong@9[Hello]");
    o.role = CW_SERVER;
    SAYS(&o, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "pong@6[Hello]");
}

static void test_messages_follow_each_other_at_their_offsets(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o,
         "\x81\x01"
         "a\x82\x02\xff\xfe\x81\x00\x82\x00\x89\x00\x81\x01z",
         "text@2[a] binary@5[\xff\xfe] text@9[] binary@11[] ping@13[] text@15[z]");
}

static void test_nothing_and_unfinished_frames_wait(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "", "");
    SAYS(&o, "\x81", "");
    SAYS(&o, "\x81\x05Hell", "");
    SAYS(&o, "\x81\x7e\x01", "");
    SAYS(&o, "\x82\x7f\0\0\0\0\0", "");
    SAYS(&o, "\x88\x02\x03", "");
    o.role = CW_SERVER;
    SAYS(&o, "\x81\x85\x37\xfa\x21", "");
    SAYS(&o, "\x81\x85\x37\xfa\x21\x3d\x7f", "");
}

static void test_lengths_of_7_16_and_64_bits_in_both_roles(void) {
    static const size_t SIZES[] = {0, 1, 124, 125, 126, 127, 128, 255, 256, 65535, 65536, 65537};
    for (int role = 0; role < 2; role++)
        for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++)
            for (uint32_t rx = 512; rx <= 131072; rx *= 256) {
                options o = usual((cw_role)role);
                bytes stream = {0};
                o.rx_capacity = rx;
                o.message_max = 65537;
                put_letters(&stream, &o, 0x82, SIZES[i]);
                put_letters(&stream, &o, 0x81, SIZES[i]);
                put_letters(&stream, &o, 0x81, 3);
                check_note("%zu bytes, role %d", SIZES[i], role);
                check_stream(&o, &stream, 0);
                bytes_free(&stream);
            }
}

static void test_each_reserved_bit_breaks_at_its_frame(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x81\x01x\xc1\x01x", "text@2[x]", CW_E_FRAME_RESERVED_BITS, 3);
    BREAKS(&o, "\x81\x01x\xa1\x01x", "text@2[x]", CW_E_FRAME_RESERVED_BITS, 3);
    BREAKS(&o, "\x81\x01x\x91\x01x", "text@2[x]", CW_E_FRAME_RESERVED_BITS, 3);
    BREAKS(&o, "\xf1", "", CW_E_FRAME_RESERVED_BITS, 0);
    BREAKS(&o, "\x01\x00\xc0\x00", "", CW_E_FRAME_RESERVED_BITS, 2);
    BREAKS(&o, "\xc9\x00", "", CW_E_FRAME_RESERVED_BITS, 0);
}

static void test_every_unknown_opcode_breaks_at_its_frame(void) {
    static const uint8_t UNKNOWN[] = {3, 4, 5, 6, 7, 11, 12, 13, 14, 15};
    for (size_t i = 0; i < sizeof UNKNOWN; i++) {
        options o = usual(CW_CLIENT);
        uint8_t stream[] = {0x89, 0, (uint8_t)(0x80 | UNKNOWN[i]), 0};
        check_says(&o, stream, 4, "ping@2[]", 8, CW_E_FRAME_OPCODE, 2);
        stream[2] = UNKNOWN[i];
        check_says(&o, stream, 3, "ping@2[]", 8, CW_E_FRAME_OPCODE, 2);
    }
}

static void test_length_in_a_longer_form_than_needed_breaks_at_the_length(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x81\x00\x81\x7e\x00\x7d", "text@2[]", CW_E_FRAME_LENGTH_FORM, 4);
    BREAKS(&o, "\x82\x7f\0\0\0\0\0\0\xff\xff", "", CW_E_FRAME_LENGTH_FORM, 2);
    BREAKS(&o, "\x82\x7f\x80\0\0\0\0\0\0\0", "", CW_E_FRAME_LENGTH_FORM, 2);
    BREAKS(&o, "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "", CW_E_FRAME_LENGTH_FORM, 2);
    o.role = CW_SERVER;
    BREAKS(&o, "\x81\xfe\x00\x01", "", CW_E_FRAME_LENGTH_FORM, 2);
}

static void test_every_pair_of_first_bytes_comes_to_what_the_model_says(void) {
    for (int role = 0; role < 2; role++)
        for (uint32_t head = 0; head < 65536; head++) {
            options o = usual((cw_role)role);
            uint8_t p[16] = {(uint8_t)(head >> 8), (uint8_t)head, 0, 200, 'a', 'b', 'c', 'd',
                             'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'};
            bytes stream = {p, sizeof p, sizeof p};
            outcome want = expected_of(&o, p, sizeof p, NULL);
            check_note("%04x, role %d", head, role);
            check_whole(&o, &stream, &want);
            bytes_free(&want.log);
        }
}

/* ---- 5.3 masking ---- */

static void test_masked_frame_from_a_server_breaks_at_its_second_byte(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "", CW_E_FRAME_MASKED, 1);
    BREAKS(&o, "\x81\x01x\x89\x80\0\0\0\0", "text@2[x]", CW_E_FRAME_MASKED, 4);
    BREAKS(&o, "\x01\x01x\x80\x80", "", CW_E_FRAME_MASKED, 4);
}

static void test_unmasked_frame_from_a_client_breaks_at_its_second_byte(void) {
    options o = usual(CW_SERVER);
    BREAKS(&o, "\x81\x05Hello", "", CW_E_FRAME_UNMASKED, 1);
    BREAKS(&o, "\x89\x80\0\0\0\0\x88\x00", "ping@6[]", CW_E_FRAME_UNMASKED, 7);
}

static void test_every_fragment_has_a_mask_of_its_own(void) {
    options o = usual(CW_SERVER);
    SAYS(&o,
         "\x01\x83\x01\x02\x03\x04\x49\x67\x6f"
         "\x89\x82\xff\x00\xff\x00\x97i"
         "\x80\x82\x20\x10\x00\x00\x4c\x7f",
         "ping@15[hi] text[Hello]");
}

static void test_mask_of_zeros_changes_nothing(void) {
    options o = usual(CW_SERVER);
    SAYS(&o, "\x82\x84\0\0\0\0\x00\x01\xfe\xff", "binary@6[\x00\x01\xfe\xff]");
}

static void test_masked_payload_is_plain_once_however_often_its_rest_is_awaited(void) {
    options o = usual(CW_SERVER);
    for (size_t n = 0; n < 40; n++) {
        bytes stream = {0};
        put_letters(&stream, &o, 0x81, n);
        put_letters(&stream, &o, 0x01, n);
        put_letters(&stream, &o, 0x89, n);
        put_letters(&stream, &o, 0x80, n);
        check_stream(&o, &stream, 0);
        bytes_free(&stream);
    }
}

/* ---- 5.4 fragmentation ---- */

static void test_control_frames_come_between_fragments(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o,
         "\x02\x01"
         "a\x89\x01"
         "1\x00\x01"
         "b\x8a\x01"
         "2\x89\x00\x80\x01"
         "c\x81\x01"
         "d",
         "ping@5[1] pong@11[2] ping@14[] binary[abc] text@19[d]");
}

static void test_empty_fragments_first_middle_and_last(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x01\x00\x80\x00", "text[]");
    SAYS(&o, "\x01\x00\x00\x00\x80\x02hi", "text[hi]");
    SAYS(&o, "\x02\x02hi\x00\x00\x80\x00", "binary[hi]");
    SAYS(&o, "\x01\x00\x00\x02hi\x80\x00\x81\x00", "text[hi] text@10[]");
    o.small_size = 0;
    SAYS(&o, "\x01\x00\x80\x00\x01\x00\x80\x01x", "text[] text[x]");
}

static void test_continuation_without_a_message_breaks_at_its_frame(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x80\x02{}", "", CW_E_FRAME_CONTINUATION, 0);
    BREAKS(&o, "\x00\x00", "", CW_E_FRAME_CONTINUATION, 0);
    BREAKS(&o, "\x81\x02hi\x80\x00", "text@2[hi]", CW_E_FRAME_CONTINUATION, 4);
    BREAKS(&o, "\x01\x01h\x80\x01i\x80\x01!", "text[hi]", CW_E_FRAME_CONTINUATION, 6);
    BREAKS(&o, "\x89\x00\x00\x00", "ping@2[]", CW_E_FRAME_CONTINUATION, 2);
}

static void test_data_frame_inside_a_message_breaks_at_its_frame(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x01\x01h\x81\x01i", "", CW_E_FRAME_CONTINUATION, 3);
    BREAKS(&o, "\x01\x01h\x01\x01i", "", CW_E_FRAME_CONTINUATION, 3);
    BREAKS(&o, "\x02\x00\x82\x00", "", CW_E_FRAME_CONTINUATION, 2);
    BREAKS(&o, "\x01\x01h\x00\x00\x89\x00\x02\x00", "ping@7[]", CW_E_FRAME_CONTINUATION, 7);
}

static void test_as_many_fragments_as_allowed_and_one_more(void) {
    for (uint32_t most = 1; most < 6; most++)
        for (int is_more = 0; is_more < 2; is_more++) {
            options o = usual(CW_CLIENT);
            bytes stream = {0};
            o.fragments_max = most;
            put_frame(&stream, 0x81, NULL, "", 0);
            for (uint32_t i = 0; i < most + (uint32_t)is_more; i++) {
                put_frame(&stream, i ? 0x00 : 0x01, NULL, "x", 1);
                put_frame(&stream, 0x89, NULL, "", 0); /* not one of them */
            }
            if (!is_more) {
                stream.p[2 + 5 * (most - 1)] |= 0x80; /* the last is final */
                put_frame(&stream, 0x81, NULL, "", 0); /* the count begins again */
            }
            check_stream(&o, &stream, is_more ? CW_E_FRAME_FRAGMENTS : 0);
            bytes_free(&stream);
        }
}

static void test_fragment_beyond_the_count_breaks_at_its_frame(void) {
    options o = usual(CW_CLIENT);
    o.fragments_max = 2;
    BREAKS(&o, "\x01\x01x\x00\x00\x80\x00", "", CW_E_FRAME_FRAGMENTS, 5);
    o.fragments_max = 1;
    SAYS(&o, "\x81\x01x\x81\x01y", "text@2[x] text@5[y]");
    BREAKS(&o, "\x01\x01x\x80\x00", "", CW_E_FRAME_FRAGMENTS, 3);
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

/* None of these may be mistaken for a small one, alone or added to what came. */
static void test_lengths_up_to_2_to_the_63_are_refused_before_anything_is_allocated(void) {
    static const uint64_t LENGTHS[] = {65536,
                                       0x7FFFFFFF,
                                       0x80000000,
                                       0xFFFFFFFF,
                                       0x100000000,
                                       0x100000005,
                                       0x1FFFFFFF0,
                                       0xFFFFFFFF00000001,
                                       0x7FFFFFFFFFFFFF00,
                                       0x7FFFFFFFFFFFFFFF,
                                       0xFFFFFFFFFFFFFFFE};
    for (int role = 0; role < 2; role++)
        for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++)
            for (uint32_t have = 0; have < 3; have++) {
                options o = usual((cw_role)role);
                bytes stream = {0};
                uint8_t head[14] = {have ? 0x80 : 0x82, role ? 0xFF : 0x7F};
                uint64_t length = LENGTHS[i];
                peer s;
                outcome want;
                if (have) put_letters(&stream, &o, 0x02, have == 1 ? 2 : 100);
                if (have == 2) length -= 100; /* a sum that could wrap */
                for (int k = 0; k < 8; k++) head[2 + k] = (uint8_t)(length >> (56 - 8 * k));
                put(&stream, head, role ? 14 : 10);
                want = expected_of(&o, stream.p, stream.n, NULL);
                CHECK_EQ(want.code, length >> 63 || length < 65536 ? CW_E_FRAME_LENGTH_FORM
                                                                  : CW_E_FRAME_TOO_BIG);
                peer_open(&s, &o);
                receive(&s, stream.p, stream.n, 0);
                check_outcome(&s.said, &want);
                CHECK_EQ(s.heap.made, 0);
                peer_close(&s);
                check_every_cut(&o, &stream, &want);
                bytes_free(&stream);
                bytes_free(&want.log);
            }
}

static void test_limit_of_2_to_the_31_holds_without_overflow(void) {
    options o = usual(CW_CLIENT);
    peer s;
    o.message_max = 0x80000000;
    BREAKS(&o, "\x82\x7f\0\0\0\0\x80\0\0\1", "", CW_E_FRAME_TOO_BIG, 2);
    BREAKS(&o, "\x02\x01x\x80\x7f\0\0\0\0\x80\0\0\0", "", CW_E_FRAME_TOO_BIG, 5);
    peer_open(&s, &o);
    s.heap.fail_at = 1;
    receive(&s, "\x82\x7f\0\0\0\0\x80\0\0\0" "abcdef", 16, 0);
    CHECK(s.said.code == 0 || s.said.code == CW_E_MEMORY);
    peer_close(&s);
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

static void test_messages_of_every_size_around_the_small_block(void) {
    static const uint32_t SMALL[] = {0, 1, 2, 64, 300};
    for (size_t i = 0; i < sizeof SMALL / sizeof *SMALL; i++)
        for (uint32_t n = SMALL[i] ? SMALL[i] - 1 : 0; n <= SMALL[i] + 2; n++)
            for (uint32_t first = 0; first <= n; first += 1 + n / 3) {
                options o = usual(CW_SERVER);
                bytes stream = {0};
                peer s;
                o.small_size = SMALL[i];
                put_letters(&stream, &o, 0x01, first);
                put_letters(&stream, &o, 0x80, n - first);
                put_letters(&stream, &o, 0x01, 0);
                put_letters(&stream, &o, 0x80, 1);
                check_note("%u bytes, small %u, first %u", n, SMALL[i], first);
                check_stream(&o, &stream, 0);
                peer_open(&s, &o);
                receive(&s, stream.p, stream.n, 0);
                CHECK_EQ(s.heap.made, (n > SMALL[i]) + (SMALL[i] == 0));
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

/* ---- the block of the heap ---- */

static void test_block_of_the_heap_is_given_back_with_the_next_call(void) {
    options o = usual(CW_CLIENT);
    bytes stream = {0};
    put_letters(&stream, &o, 0x01, 100);
    put_letters(&stream, &o, 0x80, 29);
    put_letters(&stream, &o, 0x81, 1);
    for (int call = 0; call < 3; call++) {
        peer s;
        peer_open(&s, &o);
        CHECK_EQ(give(&s, stream.p, stream.n), stream.n);
        CHECK_EQ(take(&s, 0), CW_OK);
        CHECK(s.heap.block != NULL);
        CHECK_EQ(s.heap.made, 1);
        CHECK_EQ(s.heap.given, 0);
        if (call == 0) CHECK_EQ(take(&s, 0), CW_OK);
        if (call == 1) cw_receiver_open(&s.receiver);
        if (call == 2) cw_receiver_close(&s.receiver);
        CHECK(s.heap.block == NULL);
        CHECK_EQ(s.heap.given, 1);
        CHECK_EQ(s.heap.made, 1);
        peer_close(&s);
    }
    bytes_free(&stream);
}

static void test_block_stays_while_control_frames_come_between(void) {
    options o = usual(CW_CLIENT);
    bytes stream = {0};
    peer s;
    put_letters(&stream, &o, 0x01, 200);
    put_letters(&stream, &o, 0x89, 125);
    put_letters(&stream, &o, 0x00, 200);
    put_letters(&stream, &o, 0x8A, 125);
    put_letters(&stream, &o, 0x80, 200);
    put_letters(&stream, &o, 0x01, 1);
    check_stream(&o, &stream, 0);
    peer_open(&s, &o);
    receive(&s, stream.p, stream.n, 0);
    CHECK_EQ(s.heap.made, 1);
    CHECK_EQ(s.heap.given, 1);
    CHECK(s.heap.peak <= cw_buffer_size(o.message_max));
    peer_close(&s);
    bytes_free(&stream);
}

/* One byte a frame: the block is made once, and has room for the largest message. */
static void test_block_has_the_size_of_the_largest_message(void) {
    static const uint32_t LIMITS[] = {129, 1000, 4000, 4001, 20000};
    for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++) {
        options o = usual(CW_CLIENT);
        peer s;
        o.message_max = LIMITS[i];
        o.fragments_max = LIMITS[i] + 2;
        peer_open(&s, &o);
        receive(&s, "\x01\x00", 2, 0);
        for (uint32_t n = 0; n < LIMITS[i]; n++) {
            receive(&s, "\x00\x01x", 3, 0);
            CHECK_EQ(s.heap.size, n < 128 ? 0 : cw_buffer_size(LIMITS[i]));
        }
        receive(&s, "\x80\x00", 2, 0);
        CHECK_EQ(s.said.code, 0);
        CHECK_EQ(s.said.log.n, LIMITS[i] + 6);
        CHECK_EQ(s.heap.made, 1);
        CHECK_EQ(s.heap.grown, 0);
        CHECK_EQ(s.heap.given, 1);
        peer_close(&s);
    }
}

static void test_one_frame_larger_than_the_receive_buffer_is_one_block(void) {
    for (int role = 0; role < 2; role++)
        for (uint32_t n = 600; n <= 4096; n += 1748) {
            options o = usual((cw_role)role);
            bytes stream = {0};
            peer s;
            put_letters(&stream, &o, 0x81, n);
            check_stream(&o, &stream, 0);
            peer_open(&s, &o);
            receive(&s, stream.p, stream.n, 0);
            CHECK_EQ(s.heap.made, 1);
            CHECK_EQ(s.heap.given, 1);
            CHECK_EQ(s.heap.grown, 0);
            CHECK_EQ(s.heap.peak, cw_buffer_size(o.message_max));
            peer_close(&s);
            bytes_free(&stream);
        }
}

static void test_small_messages_take_nothing_from_the_heap(void) {
    options o = usual(CW_SERVER);
    bytes stream = {0};
    peer s;
    for (size_t n = 0; n <= 128; n++) {
        put_letters(&stream, &o, 0x81, n);
        put_letters(&stream, &o, 0x01, n / 2);
        put_letters(&stream, &o, 0x80, n - n / 2);
    }
    peer_open(&s, &o);
    receive(&s, stream.p, stream.n, 0);
    CHECK_EQ(s.said.code, 0);
    CHECK_EQ(s.said.frames, 3 * 129);
    CHECK_EQ(s.heap.made, 0);
    peer_close(&s);
    check_stream(&o, &stream, 0);
    bytes_free(&stream);
}

/* ---- 5.5 control frames, 7.4 close codes ---- */

static void test_control_frame_of_125_bytes_and_of_126(void) {
    static const uint8_t FIRST[] = {0x89, 0x8A};
    for (int role = 0; role < 2; role++)
        for (size_t i = 0; i < sizeof FIRST; i++)
            for (size_t n = 124; n <= 127; n++) {
                options o = usual((cw_role)role);
                bytes stream = {0};
                o.rx_capacity = CW_RECEIVER_RX_MIN;
                put_letters(&stream, &o, 0x81, 200);
                put_letters(&stream, &o, FIRST[i], n);
                check_stream(&o, &stream, n > 125 ? CW_E_FRAME_CONTROL_TOO_LONG : 0);
                bytes_free(&stream);
            }
}

static void test_control_frame_in_fragments_breaks_at_its_frame(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x81\x00\x09\x00", "text@2[]", CW_E_FRAME_CONTROL_FRAGMENTED, 2);
    BREAKS(&o, "\x08", "", CW_E_FRAME_CONTROL_FRAGMENTED, 0);
    BREAKS(&o, "\x01\x00\x0a\x00", "", CW_E_FRAME_CONTROL_FRAGMENTED, 2);
}

static void test_bytes_of_a_ping_are_no_text(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x89\x03\xff\xc3\x28\x8a\x01\x80", "ping@2[\xff\xc3\x28] pong@7[\x80]");
}

static void test_close_is_the_last_that_is_read(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x88\x00", "close@2[]");
    SAYS(&o, "\x88\x02\x03\xe8\x81\x01x", "close@2[\x03\xe8]");
    SAYS(&o, "\x81\x01x\x88\x06\x03\xe9" "bye!\x88\x00", "text@2[x] close@5[\x03\xe9" "bye!]");
    SAYS(&o, "\x88\x00\xff\xff\xff\xff", "close@2[]");
    SAYS(&o, "\x88\x00\x88\x01\x03", "close@2[]");
    o.role = CW_SERVER;
    SAYS(&o, "\x88\x82\x01\x00\x00\x00\x02\xe8", "close@6[\x03\xe8]");
}

static void test_close_inside_a_fragmented_message_is_no_error(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x01\x01x\x88\x02\x03\xe8\x80\x01y", "close@5[\x03\xe8]");
    SAYS(&o, "\x01\x02\xe2\x82\x88\x00", "close@6[]");
}

static void test_nothing_behind_a_close_is_looked_at(void) {
    options o = usual(CW_CLIENT);
    peer s;
    uint32_t free_size;
    peer_open(&s, &o);
    give(&s, (const uint8_t *)"\x88\x00\xff\xff", 4);
    CHECK_EQ(take(&s, 0), CW_OK);
    for (int i = 0; i < 600; i++) {
        uint8_t *to;
        CHECK_EQ(take(&s, i), CW_NEED_MORE);
        to = cw_receiver_tail(&s.receiver, &free_size);
        if (free_size) {
            *to = 0xFF;
            CHECK_EQ(cw_receiver_commit(&s.receiver, 1), CW_OK);
        }
    }
    CHECK_EQ(s.receiver.has_close, 1);
    CHECK_EQ(s.said.frames, 1);
    CHECK_EQ(s.said.controls, 1);
    peer_close(&s);
}

static void test_close_with_a_payload_of_one_byte_breaks(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x81\x00\x88\x01\x03", "text@2[]", CW_E_FRAME_CLOSE, 4);
}

static void test_every_close_code(void) {
    for (uint32_t code = 0; code < 65536; code++) {
        options o = usual(CW_CLIENT);
        uint8_t p[] = {0x88, 2, (uint8_t)(code >> 8), (uint8_t)code};
        bytes stream = {p, 4, 4};
        int is_valid = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                       (code >= 3000 && code <= 4999);
        outcome want = expected_of(&o, p, 4, NULL);
        check_note("close code %u", code);
        CHECK_EQ(want.is_closed, is_valid);
        CHECK_EQ(want.code, is_valid ? 0 : CW_E_FRAME_CLOSE);
        check_whole(&o, &stream, &want);
        bytes_free(&want.log);
    }
}

static void test_close_reason_is_whole_text(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x88\x05\x03\xe8\xe2\x82\xac", "close@2[\x03\xe8\xe2\x82\xac]");
    BREAKS(&o, "\x88\x04\x03\xe8" "a\xff", "", CW_E_UTF8, 5);
    BREAKS(&o, "\x88\x05\x03\xe8" "a\xe2\x82", "", CW_E_UTF8, 7);
    BREAKS(&o, "\x88\x05\x03\xe8\xed\xa0\x80", "", CW_E_UTF8, 5);
    o.checks_text = 0; /* says nothing about close frames */
    BREAKS(&o, "\x88\x04\x03\xe8" "a\xff", "", CW_E_UTF8, 5);
}

/* The text that is open has nothing to do with the reason of a close frame in its middle. */
static void test_close_reason_does_not_go_on_with_the_open_text(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x01\x02\xe2\x82\x88\x03\x03\xe8\xac", "", CW_E_UTF8, 8);
    SAYS(&o, "\x01\x02\xe2\x82\x89\x01\xac\x80\x01\xac", "ping@6[\xac] text[\xe2\x82\xac]");
}

/* ---- 8.1 text ---- */

static void test_text_of_characters_of_all_lengths(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x81\x0a" "a\xc2\x80\xe2\x82\xac\xf0\x9d\x84\x9e",
         "text@2[a\xc2\x80\xe2\x82\xac\xf0\x9d\x84\x9e]");
    SAYS(&o, "\x81\x04\xf4\x8f\xbf\xbf\x81\x03\xed\x9f\xbf",
         "text@2[\xf4\x8f\xbf\xbf] text@8[\xed\x9f\xbf]");
}

static void test_bad_byte_breaks_at_its_offset(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x81\x05" "abc\xff" "e", "", CW_E_UTF8, 5);
    BREAKS(&o, "\x81\x01x\x81\x01\x80", "text@2[x]", CW_E_UTF8, 5);
    BREAKS(&o, "\x81\x02\xc0\xaf", "", CW_E_UTF8, 2);
    BREAKS(&o, "\x81\x03\xe0\x80\xaf", "", CW_E_UTF8, 3);
    BREAKS(&o, "\x81\x03\xed\xa0\x80", "", CW_E_UTF8, 3);
    BREAKS(&o, "\x81\x04\xf4\x90\x80\x80", "", CW_E_UTF8, 3);
    BREAKS(&o, "\x81\x03\xe2\x82" "A", "", CW_E_UTF8, 4);
    SAYS(&o, "\x82\x02\xff\xfe", "binary@2[\xff\xfe]");
}

static void test_bad_byte_breaks_before_the_rest_of_its_frame_comes(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x81\x7d" "abc\xff", "", CW_E_UTF8, 5);
    BREAKS(&o, "\x81\x7e\x10\x00" "abc\xc0", "", CW_E_UTF8, 7);
    BREAKS(&o, "\x01\x7d" "abc\xf8", "", CW_E_UTF8, 5);
    BREAKS(&o, "\x01\x01" "a\x00\x7d\xff", "", CW_E_UTF8, 5);
    BREAKS(&o, "\x81\x7d\xe2\x28", "", CW_E_UTF8, 3);
    SAYS(&o, "\x81\x7d" "abc\xe2\x82", "");
    o.role = CW_SERVER;
    BREAKS(&o, "\x81\xfd\x01\x02\x03\x04" "abb\xfb", "", CW_E_UTF8, 9);
}

static void test_characters_split_by_fragments(void) {
    options o = usual(CW_CLIENT);
    SAYS(&o, "\x01\x01\xe2\x00\x01\x82\x80\x01\xac", "text[\xe2\x82\xac]");
    SAYS(&o, "\x01\x01\xf0\x00\x00\x00\x02\x9d\x84\x89\x00\x80\x01\x9e",
         "ping@11[] text[\xf0\x9d\x84\x9e]");
    BREAKS(&o, "\x01\x02\xe2\x82\x80\x01" "A", "", CW_E_UTF8, 6);
    BREAKS(&o, "\x01\x01\xed\x00\x00\x80\x02\xa0\x80", "", CW_E_UTF8, 7);
    BREAKS(&o, "\x01\x01\xf4\x80\x01\x90", "", CW_E_UTF8, 5);
}

static void test_text_that_ends_inside_a_character_breaks_behind_its_last_byte(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x81\x03" "a\xe2\x82\x81\x00", "", CW_E_UTF8, 5);
    BREAKS(&o, "\x01\x02" "a\xc3\x80\x00", "", CW_E_UTF8, 6);
    BREAKS(&o, "\x01\x02" "a\xc3\x89\x00\x80\x00", "ping@6[]", CW_E_UTF8, 8);
    BREAKS(&o, "\x01\x00\x80\x01\xf0", "", CW_E_UTF8, 5);
}

static void test_text_begins_anew_with_every_message(void) {
    options o = usual(CW_CLIENT);
    BREAKS(&o, "\x81\x01x\x81\x01\xac", "text@2[x]", CW_E_UTF8, 5);
    SAYS(&o, "\x02\x01\xe2\x80\x01\xff\x01\x01" "a\x80\x01" "b", "binary[\xe2\xff] text[ab]");
}

/* A frame of this text is larger than the receive buffer, or nearly. */
static void test_bad_byte_at_every_place_of_a_large_frame(void) {
    for (size_t n = 250; n < 330; n += 13)
        for (size_t bad = 0; bad < n; bad += bad > 235 && bad < 265 ? 1 : 17) {
            options o = usual(CW_SERVER);
            bytes stream = {0}, text = letters(n);
            outcome want;
            dice d = {bad};
            o.rx_capacity = 256;
            text.p[bad] = bad + 1 < n ? 0x80 : 0xC3;
            put_frame(&stream, 0x81, MASK, text.p, n);
            want = expected_of(&o, stream.p, stream.n, NULL);
            CHECK_EQ(want.code, CW_E_UTF8);
            CHECK_EQ(want.at, 8 + bad + (bad + 1 == n));
            check_whole(&o, &stream, &want);
            check_steps(&o, &stream, 1, &want);
            for (int i = 0; i < 6; i++) check_diced(&o, &stream, &d, &want);
            bytes_free(&stream);
            bytes_free(&text);
        }
}

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

static void test_as_many_control_frames_a_second_as_allowed_and_one_more(void) {
    options o = usual(CW_CLIENT);
    o.controls_max = 3;
    SAYS(&o, "\x89\x00\x8a\x00\x89\x00\x81\x00", "ping@2[] pong@4[] ping@6[] text@8[]");
    BREAKS(&o, "\x89\x00\x81\x00\x8a\x00\x89\x00\x81\x00\x8a\x00",
           "ping@2[] text@4[] pong@6[] ping@8[] text@10[]", CW_E_FRAME_FLOOD, 10);
    SAYS(&o, "\x89\x00\x8a\x00\x88\x00", "ping@2[] pong@4[] close@6[]");
    o.controls_max = 1;
    BREAKS(&o, "\x01\x00\x89\x00\x89\x00", "ping@4[]", CW_E_FRAME_FLOOD, 4);
}

static void test_count_of_control_frames_begins_again_with_each_second(void) {
    peer s = opened_with(2);
    for (int64_t second = 5; second < 9; second++) {
        CHECK_EQ(ping_at(&s, second * SECOND), 0);
        CHECK_EQ(ping_at(&s, second * SECOND + SECOND - 1), 0);
    }
    CHECK_EQ(ping_at(&s, 9 * SECOND - 1), CW_E_FRAME_FLOOD);
    CHECK_EQ(s.said.at, 16);
    peer_close(&s);
}

static void test_stamp_that_stands_still_counts_as_one_second(void) {
    peer s = opened_with(100);
    for (int i = 0; i < 100; i++) CHECK_EQ(ping_at(&s, -7), 0);
    CHECK_EQ(ping_at(&s, -7), CW_E_FRAME_FLOOD);
    peer_close(&s);
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

static void test_no_limit_of_control_frames_is_no_limit(void) {
    peer s = opened_with(0);
    for (int i = 0; i < 5000; i++) CHECK_EQ(ping_at(&s, 0), 0);
    CHECK_EQ(s.said.controls, 5000);
    peer_close(&s);
}

static void test_count_of_control_frames_begins_again_with_a_connection(void) {
    options o = usual(CW_CLIENT);
    peer s;
    o.controls_max = 2;
    peer_open(&s, &o);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(ping_at(&s, 0), 0);
        CHECK_EQ(ping_at(&s, 0), 0);
        if (i == 1) CHECK_EQ(ping_at(&s, 0), CW_E_FRAME_FLOOD);
        peer_reopen(&s);
    }
    peer_close(&s);
}

/* ---- the first error is the last ---- */

static void test_error_stays_whatever_comes_behind_it(void) {
    options o = usual(CW_CLIENT);
    peer s;
    cw_message m;
    peer_open(&s, &o);
    receive(&s, "\x81\x01x\x83", 4, 0);
    CHECK_EQ(s.said.code, CW_E_FRAME_OPCODE);
    CHECK_EQ(s.said.at, 3);
    for (int i = 0; i < 1000; i++) {
        uint32_t free_size;
        uint8_t *to = cw_receiver_tail(&s.receiver, &free_size);
        if (free_size >= 2) {
            memcpy(to, "\x81\x00", 2);
            (void)cw_receiver_commit(&s.receiver, 2);
        }
        if (i % 3 == 0) cw_receiver_compact(&s.receiver);
        CHECK_EQ(cw_receiver_next(&s.receiver, i * SECOND, &m), CW_E_FRAME_OPCODE);
        CHECK_EQ(s.receiver.error.code, CW_E_FRAME_OPCODE);
        CHECK_EQ(s.receiver.error.at, 3);
    }
    peer_close(&s);
}

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

static void test_offsets_go_on_beyond_2_to_the_32(void) {
    options o = usual(CW_CLIENT);
    peer s;
    cw_message m;
    peer_open(&s, &o);
    s.receiver.stream_at = 0xFFFFFFFC;
    give(&s, (const uint8_t *)"\x81\x04" "abcd\x81\x01x\x81\x02y\xff", 13);
    CHECK_EQ(cw_receiver_next(&s.receiver, 0, &m), CW_OK);
    CHECK_EQ(m.at, 0xFFFFFFFE);
    CHECK_EQ(cw_receiver_next(&s.receiver, 0, &m), CW_OK);
    CHECK_EQ(m.at, 0x100000004);
    CHECK_EQ(cw_receiver_next(&s.receiver, 0, &m), CW_E_UTF8);
    CHECK_EQ(s.receiver.error.at, 0x100000008);
    peer_close(&s);
}

/* ---- an owner that takes frames by itself ---- */

static void test_owner_skips_whole_frames(void) {
    options o = usual(CW_CLIENT);
    peer s;
    peer_open(&s, &o);
    give(&s, (const uint8_t *)"\x81\x01" "a\x81\x01" "b\x81\x01" "c\x81\x01", 11);
    CHECK_EQ(take(&s, 0), CW_OK);
    cw_receiver_settle(&s.receiver);
    CHECK_EQ(s.receiver.frames, 1);
    cw_receiver_settle(&s.receiver); /* nothing is handed out now */
    CHECK_EQ(s.receiver.frames, 1);
    cw_receiver_skip(&s.receiver, s.receiver.rx.data + s.receiver.rx.parsed + 3, 1);
    CHECK_EQ(s.receiver.frames, 2);
    CHECK_EQ(take(&s, 0), CW_OK);
    CHECK_EQ(take(&s, 0), CW_NEED_MORE);
    CHECK_EQ(s.said.frames, 3);
    receive(&s, "d", 1, 0);
    CHECK_EQ(s.said.log.n, sizeof "text@2[a] text@8[c] text@11[d]" - 1);
    CHECK_BYTES(s.said.log.p, "text@2[a] text@8[c] text@11[d]", s.said.log.n);
    peer_close(&s);
}

static void test_is_between_only_while_no_message_is_unfinished(void) {
    options o = usual(CW_CLIENT);
    bytes large = {0};
    peer s;
    put_letters(&large, &o, 0x82, 600);
    peer_open(&s, &o);
    CHECK(cw_receiver_is_between(&s.receiver));
    receive(&s, "\x81\x01x\x01\x01", 5, 0);
    receive(&s, "x\x89\x00\x00\x00", 5, 0);
    CHECK(!cw_receiver_is_between(&s.receiver));
    receive(&s, "\x80\x00", 2, 0);
    CHECK(cw_receiver_is_between(&s.receiver));
    receive(&s, large.p, 100, 0);
    CHECK(!cw_receiver_is_between(&s.receiver));
    receive(&s, large.p + 100, large.n - 100, 0);
    CHECK(cw_receiver_is_between(&s.receiver));
    CHECK_EQ(s.said.code, 0);
    peer_close(&s);
    bytes_free(&large);
}

static void test_compact_ends_a_view_and_loses_nothing(void) {
    for (int role = 0; role < 2; role++)
        for (size_t cut = 0; cut <= 54; cut++) {
            options o = usual((cw_role)role);
            bytes stream = {0};
            outcome want;
            peer s;
            put_letters(&stream, &o, 0x81, 20);
            put_letters(&stream, &o, 0x81, 30);
            want = expected_of(&o, stream.p, stream.n, NULL);
            peer_open(&s, &o);
            give(&s, stream.p, cut);
            do cw_receiver_compact(&s.receiver);
            while (take(&s, 0) == CW_OK);
            cw_receiver_compact(&s.receiver);
            cw_receiver_compact(&s.receiver);
            give(&s, stream.p + cut, stream.n - cut);
            cw_receiver_compact(&s.receiver);
            while (take(&s, 0) == CW_OK) cw_receiver_compact(&s.receiver);
            check_outcome(&s.said, &want);
            CHECK_EQ(s.receiver.rx.received, 0);
            peer_close(&s);
            bytes_free(&stream);
            bytes_free(&want.log);
        }
}

static void test_compact_frees_the_bytes_of_the_view_that_is_over(void) {
    options o = usual(CW_CLIENT);
    uint32_t free_size;
    peer s;
    peer_open(&s, &o);
    give(&s, (const uint8_t *)"\x81\x03" "abc\x81\x02" "d", 8);
    CHECK_EQ(take(&s, 0), CW_OK);
    cw_receiver_compact(&s.receiver);
    (void)cw_receiver_tail(&s.receiver, &free_size);
    CHECK_EQ(free_size, 512 - 3);
    CHECK_EQ(s.receiver.stream_at, 5);
    CHECK_EQ(s.receiver.frames, 1);
    receive(&s, "e", 1, 0);
    CHECK_BYTES(s.said.log.p, "text@2[abc] text@7[de]", 22);
    peer_close(&s);
}

/* ---- life ---- */

static void test_receiver_is_made_within_its_limits_only(void) {
    options o = usual(CW_CLIENT);
    peer s;
    cw_receiver r;
    cw_receiver_terms terms;
    peer_open(&s, &o);
    terms = terms_of(&s);
    terms.rx_capacity = CW_RECEIVER_RX_MIN - 1;
    CHECK_EQ(cw_receiver_init(&r, cw_ops_for(CW_LEVEL_BASE), &terms), CW_E_FRAME_TOO_BIG);
    terms.rx_capacity = 0;
    CHECK_EQ(cw_receiver_init(&r, cw_ops_for(CW_LEVEL_BASE), &terms), CW_E_FRAME_TOO_BIG);
    terms.rx_capacity = CW_RECEIVER_RX_MIN;
    terms.message_max = 0x80000000;
    CHECK_EQ(cw_receiver_init(&r, cw_ops_for(CW_LEVEL_BASE), &terms), CW_OK);
    cw_receiver_close(&r); /* was never opened */
    terms.message_max = 0x80000001;
    CHECK_EQ(cw_receiver_init(&r, cw_ops_for(CW_LEVEL_BASE), &terms), CW_E_FRAME_TOO_BIG);
    terms.message_max = UINT32_MAX;
    CHECK_EQ(cw_receiver_init(&r, cw_ops_for(CW_LEVEL_BASE), &terms), CW_E_FRAME_TOO_BIG);
    peer_close(&s);
}

static void test_reopened_receiver_forgets_the_stream_and_keeps_the_counters(void) {
    static const struct {
        const char *stream;
        size_t n;
    } BEFORE[] = {
        {"", 0},
        {"\x81", 1},
        {"\x81\x7d" "ab\xe2", 5},
        {"\x01\x02" "a\xe2", 4},
        {"\x01\x01" "a\x00\x05x", 6},
        {"\x82\x7e\x04\x00" "abcd", 8},
        {"\x01\x7e\x00\xc8" "abcd", 8},
        {"\x89\x00\x88\x00\x01", 5},
        {"\x81\x01\xff", 3},
        {"\xff", 1},
        {"\x81\x01z", 3},
    };
    for (size_t i = 0; i < sizeof BEFORE / sizeof *BEFORE; i++)
        for (int closes = 0; closes < 2; closes++) {
            options o = usual(CW_CLIENT);
            static const char NEXT[] = "\x81\x02hi\x01\x01" "a\x89\x00\x80\x01" "b";
            outcome want = expected_of(&o, (const uint8_t *)NEXT, sizeof NEXT - 1, NULL);
            uint64_t frames, controls;
            peer s;
            check_note("case %zu", i);
            peer_open(&s, &o);
            receive(&s, BEFORE[i].stream, BEFORE[i].n, 0);
            frames = s.said.frames;
            controls = s.said.controls;
            if (closes) {
                cw_receiver_close(&s.receiver);
                cw_receiver_close(&s.receiver);
            }
            peer_reopen(&s);
            CHECK_EQ(s.receiver.error.code, 0);
            CHECK(cw_receiver_is_between(&s.receiver));
            CHECK_EQ(take(&s, 0), CW_NEED_MORE);
            receive(&s, NEXT, sizeof NEXT - 1, 0);
            check_outcome(&s.said, &want);
            CHECK_EQ(s.receiver.frames, frames + want.frames);
            CHECK_EQ(s.receiver.controls, controls + want.controls);
            peer_close(&s);
            bytes_free(&want.log);
        }
}

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

static void test_closing_twice_gives_back_once(void) {
    options o = usual(CW_CLIENT);
    bytes stream = {0};
    peer s;
    put_letters(&stream, &o, 0x01, 300);
    peer_open(&s, &o);
    receive(&s, stream.p, stream.n, 0);
    CHECK(s.heap.block != NULL);
    cw_receiver_close(&s.receiver);
    CHECK(s.heap.block == NULL);
    cw_receiver_close(&s.receiver);
    CHECK_EQ(s.heap.given, 1);
    peer_close(&s);
    bytes_free(&stream);
}

static void test_counters_of_frames_and_control_frames(void) {
    options o = usual(CW_CLIENT);
    peer s;
    peer_open(&s, &o);
    receive(&s, "\x81\x00\x01\x00\x89\x00\x00\x00\x8a\x00\x80\x00\x88\x00", 14, 0);
    CHECK_EQ(s.said.is_closed, 1);
    CHECK_EQ(s.receiver.frames, 7);
    CHECK_EQ(s.receiver.controls, 3);
    peer_close(&s);
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

static void test_every_request_to_the_heap_may_be_refused(void) {
    static const size_t STEPS[] = {1, 13, 300, 100000};
    for (int role = 0; role < 2; role++)
        for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++)
            for (int closes = 0; closes < 2; closes++)
                for (uint64_t fail_at = 1, is_clean = 0; !is_clean; fail_at++) {
                    options o = usual((cw_role)role);
                    bytes stream = {0};
                    outcome want;
                    peer s;
                    CHECK(fail_at < 100);
                    put_hungry(&stream, &o);
                    want = expected_of(&o, stream.p, stream.n, NULL);
                    CHECK_EQ(want.code, 0);
                    peer_open(&s, &o);
                    s.heap.fail_at = fail_at;
                    check_note("request %d fails, steps of %zu", (int)fail_at, STEPS[i]);
                    for (size_t at = 0; at < stream.n; at += STEPS[i])
                        receive(&s, stream.p + at,
                                stream.n - at < STEPS[i] ? stream.n - at : STEPS[i], 0);
                    is_clean = s.said.code == 0;
                    if (is_clean) {
                        CHECK(fail_at > 3);
                        check_outcome(&s.said, &want);
                    } else {
                        CHECK_EQ(s.said.code, CW_E_MEMORY);
                        CHECK(s.said.at < stream.n);
                        CHECK(s.said.log.n < want.log.n);
                        CHECK_BYTES(s.said.log.p, want.log.p, s.said.log.n);
                        CHECK_EQ(take(&s, 0), CW_E_MEMORY);
                        s.heap.fail_at = 0;
                        CHECK_EQ(take(&s, 0), CW_E_MEMORY);
                    }
                    s.heap.fail_at = 0;
                    if (closes) cw_receiver_close(&s.receiver);
                    peer_reopen(&s);
                    receive(&s, stream.p, stream.n, 0);
                    check_outcome(&s.said, &want);
                    peer_close(&s);
                    bytes_free(&stream);
                    bytes_free(&want.log);
                }
}

/* ---- conversations by dice ---- */

static void test_20000_conversations_by_dice_come_to_what_the_model_says(void) {
    dice d = {2026};
    uint32_t codes[CW_E_LAST] = {0}, closed = 0, messages = 0;
    for (uint32_t turn = 0; turn < 20000; turn++) {
        options o = diced_options(&d);
        bytes stream = {0};
        outcome want;
        for (uint32_t items = 1 + below(&d, 6); items; items--) {
            if (below(&d, 3)) put_diced_message(&stream, &o, &d);
            else put_diced_control(&stream, &o, &d);
        }
        if (below(&d, 4) == 0) put_diced_close(&stream, &o, &d);
        if (below(&d, 8) == 0) put_diced_bytes(&stream, &o, &d);
        if (below(&d, 3) == 0) mutate(&stream, &d);
        want = expected_of(&o, stream.p, stream.n, NULL);
        check_note("conversation %u", turn);
        check_whole(&o, &stream, &want);
        check_diced(&o, &stream, &d, &want);
        if (turn % 4 == 0) check_steps(&o, &stream, 1, &want);
        codes[want.code]++;
        closed += (uint32_t)want.is_closed;
        messages += want.log.n > 0;
        bytes_free(&stream);
        bytes_free(&want.log);
    }
    check_note("%s", "");
    CHECK(codes[0] > 5000);
    CHECK(closed > 1000);
    CHECK(messages > 10000);
    for (int code = CW_E_FRAME_RESERVED_BITS; code <= CW_E_UTF8; code++) {
        check_note("code %d", code);
        CHECK(codes[code] > 20);
    }
}

/* A control frame counts at the stamp of the read that brought its last byte. */
static void test_control_frames_with_stamps_by_dice(void) {
    dice d = {77};
    uint32_t floods = 0;
    for (uint32_t turn = 0; turn < 3000; turn++) {
        options o = usual(below(&d, 2) ? CW_SERVER : CW_CLIENT);
        bytes stream = {0};
        int64_t stamps[4096], now = (int64_t)roll(&d);
        outcome want;
        peer s;
        o.controls_max = 1 + below(&d, 4);
        for (uint32_t items = 4 + below(&d, 12); items; items--)
            put_diced_frame(&stream, &o, &d, below(&d, 2) ? 0x89 : 0x81, "ping", below(&d, 5));
        CHECK(stream.n < 4096);
        for (size_t at = 0; at < stream.n;) {
            size_t n = 1 + below(&d, 30);
            now = below(&d, 30) ? (int64_t)((uint64_t)now + below(&d, 900000000))
                                : (int64_t)roll(&d) >> below(&d, 40);
            for (; n && at < stream.n; n--) stamps[at++] = now;
        }
        want = expected_of(&o, stream.p, stream.n, stamps);
        check_note("turn %u", turn);
        peer_open(&s, &o);
        for (size_t at = 0, n; at < stream.n; at += n) {
            for (n = 1; at + n < stream.n && stamps[at + n] == stamps[at]; n++) {}
            receive(&s, stream.p + at, n, stamps[at]);
        }
        check_outcome(&s.said, &want);
        floods += want.code == CW_E_FRAME_FLOOD;
        peer_close(&s);
        bytes_free(&stream);
        bytes_free(&want.log);
    }
    CHECK(floods > 300 && floods < 2700);
}

int main(void) {
    RUN(test_unmasked_text_of_the_rfc_is_a_view);
    RUN(test_masked_text_of_the_rfc_is_a_view);
    RUN(test_fragmented_text_of_the_rfc_is_put_together);
    RUN(test_ping_and_pong_of_the_rfc);
    RUN(test_messages_follow_each_other_at_their_offsets);
    RUN(test_nothing_and_unfinished_frames_wait);
    RUN(test_lengths_of_7_16_and_64_bits_in_both_roles);
    RUN(test_each_reserved_bit_breaks_at_its_frame);
    RUN(test_every_unknown_opcode_breaks_at_its_frame);
    RUN(test_length_in_a_longer_form_than_needed_breaks_at_the_length);
    RUN(test_every_pair_of_first_bytes_comes_to_what_the_model_says);
    RUN(test_masked_frame_from_a_server_breaks_at_its_second_byte);
    RUN(test_unmasked_frame_from_a_client_breaks_at_its_second_byte);
    RUN(test_every_fragment_has_a_mask_of_its_own);
    RUN(test_mask_of_zeros_changes_nothing);
    RUN(test_masked_payload_is_plain_once_however_often_its_rest_is_awaited);
    RUN(test_control_frames_come_between_fragments);
    RUN(test_empty_fragments_first_middle_and_last);
    RUN(test_continuation_without_a_message_breaks_at_its_frame);
    RUN(test_data_frame_inside_a_message_breaks_at_its_frame);
    RUN(test_as_many_fragments_as_allowed_and_one_more);
    RUN(test_fragment_beyond_the_count_breaks_at_its_frame);
    RUN(test_message_of_the_limit_and_of_one_byte_more);
    RUN(test_too_big_a_length_breaks_at_the_length);
    RUN(test_lengths_up_to_2_to_the_63_are_refused_before_anything_is_allocated);
    RUN(test_limit_of_2_to_the_31_holds_without_overflow);
    RUN(test_frames_of_every_size_around_the_receive_buffer);
    RUN(test_frame_of_exactly_the_receive_buffer_is_a_view);
    RUN(test_messages_of_every_size_around_the_small_block);
    RUN(test_there_is_room_whenever_all_that_came_is_taken);
    RUN(test_block_of_the_heap_is_given_back_with_the_next_call);
    RUN(test_block_stays_while_control_frames_come_between);
    RUN(test_block_has_the_size_of_the_largest_message);
    RUN(test_one_frame_larger_than_the_receive_buffer_is_one_block);
    RUN(test_small_messages_take_nothing_from_the_heap);
    RUN(test_control_frame_of_125_bytes_and_of_126);
    RUN(test_control_frame_in_fragments_breaks_at_its_frame);
    RUN(test_bytes_of_a_ping_are_no_text);
    RUN(test_close_is_the_last_that_is_read);
    RUN(test_close_inside_a_fragmented_message_is_no_error);
    RUN(test_nothing_behind_a_close_is_looked_at);
    RUN(test_close_with_a_payload_of_one_byte_breaks);
    RUN(test_every_close_code);
    RUN(test_close_reason_is_whole_text);
    RUN(test_close_reason_does_not_go_on_with_the_open_text);
    RUN(test_text_of_characters_of_all_lengths);
    RUN(test_bad_byte_breaks_at_its_offset);
    RUN(test_bad_byte_breaks_before_the_rest_of_its_frame_comes);
    RUN(test_characters_split_by_fragments);
    RUN(test_text_that_ends_inside_a_character_breaks_behind_its_last_byte);
    RUN(test_text_begins_anew_with_every_message);
    RUN(test_bad_byte_at_every_place_of_a_large_frame);
    RUN(test_owner_that_checks_views_itself_comes_to_the_same);
    RUN(test_whole_view_is_handed_out_unchecked_to_an_owner_that_checks);
    RUN(test_every_error_of_a_receiver_has_its_close_code);
    RUN(test_as_many_control_frames_a_second_as_allowed_and_one_more);
    RUN(test_count_of_control_frames_begins_again_with_each_second);
    RUN(test_stamp_that_stands_still_counts_as_one_second);
    RUN(test_stamps_that_run_backwards_neither_overflow_nor_close_the_door_for_ever);
    RUN(test_no_limit_of_control_frames_is_no_limit);
    RUN(test_count_of_control_frames_begins_again_with_a_connection);
    RUN(test_error_stays_whatever_comes_behind_it);
    RUN(test_owner_breaks_the_connection_once);
    RUN(test_commit_beyond_the_tail_takes_nothing);
    RUN(test_offsets_go_on_beyond_2_to_the_32);
    RUN(test_owner_skips_whole_frames);
    RUN(test_is_between_only_while_no_message_is_unfinished);
    RUN(test_compact_ends_a_view_and_loses_nothing);
    RUN(test_compact_frees_the_bytes_of_the_view_that_is_over);
    RUN(test_receiver_is_made_within_its_limits_only);
    RUN(test_reopened_receiver_forgets_the_stream_and_keeps_the_counters);
    RUN(test_receiver_that_is_closed_and_not_opened_writes_nowhere);
    RUN(test_closing_twice_gives_back_once);
    RUN(test_counters_of_frames_and_control_frames);
    RUN(test_every_request_to_the_heap_may_be_refused);
    RUN(test_20000_conversations_by_dice_come_to_what_the_model_says);
    RUN(test_control_frames_with_stamps_by_dice);
    return 0;
}

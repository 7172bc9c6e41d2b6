/* test_frame.c — WebSocket headers and close codes, by the sections of RFC 6455. */
#include "fixture.h"

typedef struct read_result {
    int code;
    uint32_t at;
    cw_frame frame;
} read_result;

/* The bytes stand in a heap block of their exact size: one byte too far is seen. */
static read_result read_as(const void *bytes_, size_t n, cw_role role) {
    read_result r;
    uint8_t *p = malloc(n ? n : 1);
    memset(&r, 0, sizeof r);
    if (n) memcpy(p, bytes_, n);
    r.code = cw_frame_read(p, n, role, &r.frame, &r.at);
    free(p);
    return r;
}

/* Every prefix must be NEED_MORE or the verdict on the whole, at the same byte, and a verdict once
 * given must stay. */
static read_result read_by_prefixes(const void *p, size_t n, cw_role role) {
    read_result whole = read_as(p, n, role);
    int is_decided = 0;
    for (size_t cut = 0; cut <= n; cut++) {
        read_result r = read_as(p, cut, role);
        check_note("prefix of %zu of %zu bytes, role %d", cut, n, (int)role);
        if (r.code == CW_NEED_MORE) {
            CHECK(!is_decided);
            continue;
        }
        is_decided = 1;
        CHECK_EQ(r.code, whole.code);
        if (r.code >= CW_E_FIRST) {
            CHECK_EQ(r.at, whole.at);
            CHECK(r.at < cut);
        } else {
            CHECK_EQ(r.frame.payload_len, whole.frame.payload_len);
            CHECK_EQ(r.frame.header_len, whole.frame.header_len);
            CHECK(r.frame.header_len <= cut);
        }
    }
    check_note("%s", "");
    return whole;
}

#define READ(role, ...)                                                                         \
    read_by_prefixes((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), role)

static void check_error(read_result r, int code, uint32_t at) {
    CHECK_EQ(r.code, code);
    CHECK_EQ(r.at, at);
}

static void test_unmasked_frames_of_every_length_form_reach_a_client(void) {
    read_result r = READ(CW_CLIENT, 0x81, 0x05);
    CHECK_EQ(r.code, CW_OK);
    CHECK_EQ(r.frame.payload_len, 5);
    CHECK_EQ(r.frame.header_len, 2);
    CHECK_EQ(r.frame.opcode, CW_TEXT);
    CHECK_EQ(r.frame.is_final, 1);
    CHECK_EQ(r.frame.is_masked, 0);
    CHECK_EQ(READ(CW_CLIENT, 0x82, 0x00).frame.payload_len, 0);
    CHECK_EQ(READ(CW_CLIENT, 0x82, 0x7D).frame.payload_len, 125);
    CHECK_EQ(READ(CW_CLIENT, 0x82, 0x7E, 0x00, 0x7E).frame.payload_len, 126);
    CHECK_EQ(READ(CW_CLIENT, 0x82, 0x7E, 0x01, 0x00).frame.payload_len, 256);
    r = READ(CW_CLIENT, 0x82, 0x7E, 0xFF, 0xFF);
    CHECK_EQ(r.frame.payload_len, 65535);
    CHECK_EQ(r.frame.header_len, 4);
    r = READ(CW_CLIENT, 0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0);
    CHECK_EQ(r.frame.payload_len, 65536);
    CHECK_EQ(r.frame.header_len, 10);
    r = READ(CW_CLIENT, 0x82, 0x7F, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF);
    CHECK_EQ(r.code, CW_OK);
    CHECK(r.frame.payload_len == 0x7FFFFFFFFFFFFFFFu);
}

static void test_masked_frames_of_every_length_form_reach_a_server(void) {
    read_result r = READ(CW_SERVER, 0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D);
    CHECK_EQ(r.code, CW_OK);
    CHECK_EQ(r.frame.payload_len, 5);
    CHECK_EQ(r.frame.header_len, 6);
    CHECK_EQ(r.frame.is_masked, 1);
    CHECK_BYTES(r.frame.mask, "\x37\xFA\x21\x3D", 4);
    r = READ(CW_SERVER, 0x81, 0xFE, 0x01, 0x00, 1, 2, 3, 4);
    CHECK_EQ(r.frame.payload_len, 256);
    CHECK_EQ(r.frame.header_len, 8);
    CHECK_BYTES(r.frame.mask, "\1\2\3\4", 4);
    r = READ(CW_SERVER, 0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 9, 8, 7, 6);
    CHECK_EQ(r.frame.payload_len, 65536);
    CHECK_EQ(r.frame.header_len, CW_FRAME_HEADER_MAX);
    CHECK_BYTES(r.frame.mask, "\x09\x08\x07\x06", 4);
}

static void test_bytes_behind_the_header_are_not_looked_at(void) {
    read_result r = READ(CW_CLIENT, 0x81, 0x02, 0xFF, 0xFF, 0xFF);
    CHECK_EQ(r.code, CW_OK);
    CHECK_EQ(r.frame.header_len, 2);
}

static void test_no_byte_is_need_more(void) {
    CHECK_EQ(read_as("", 0, CW_CLIENT).code, CW_NEED_MORE);
    CHECK_EQ(read_as("", 0, CW_SERVER).code, CW_NEED_MORE);
}

static void test_each_reserved_bit_is_refused_at_byte_0(void) {
    check_error(READ(CW_CLIENT, 0xC1, 0x00), CW_E_FRAME_RESERVED_BITS, 0);
    check_error(READ(CW_CLIENT, 0xA1, 0x00), CW_E_FRAME_RESERVED_BITS, 0);
    check_error(READ(CW_CLIENT, 0x91, 0x00), CW_E_FRAME_RESERVED_BITS, 0);
    check_error(READ(CW_SERVER, 0xF1, 0x80, 0, 0, 0, 0), CW_E_FRAME_RESERVED_BITS, 0);
}

static void test_every_unknown_opcode_is_refused_at_byte_0(void) {
    static const uint8_t UNKNOWN[] = {3, 4, 5, 6, 7, 11, 12, 13, 14, 15};
    for (size_t i = 0; i < sizeof UNKNOWN; i++) {
        uint8_t head[2] = {0x80 | UNKNOWN[i], 0};
        check_error(read_by_prefixes(head, 2, CW_CLIENT), CW_E_FRAME_OPCODE, 0);
        head[1] = 0x80;
        check_error(read_by_prefixes(head, 2, CW_SERVER), CW_E_FRAME_OPCODE, 0);
    }
}

static void test_every_known_opcode_is_read(void) {
    static const uint8_t KNOWN[] = {0, 1, 2, 8, 9, 10};
    for (size_t i = 0; i < sizeof KNOWN; i++) {
        uint8_t head[2] = {0x80 | KNOWN[i], 0};
        read_result r = read_by_prefixes(head, 2, CW_CLIENT);
        CHECK_EQ(r.code, CW_OK);
        CHECK_EQ(r.frame.opcode, KNOWN[i]);
    }
}

static void test_data_frame_may_be_a_fragment_and_control_frame_may_not(void) {
    CHECK_EQ(READ(CW_CLIENT, 0x01, 0x00).frame.is_final, 0);
    CHECK_EQ(READ(CW_CLIENT, 0x02, 0x00).code, CW_OK);
    CHECK_EQ(READ(CW_CLIENT, 0x00, 0x00).code, CW_OK);
    check_error(READ(CW_CLIENT, 0x08, 0x00), CW_E_FRAME_CONTROL_FRAGMENTED, 0);
    check_error(READ(CW_CLIENT, 0x09, 0x00), CW_E_FRAME_CONTROL_FRAGMENTED, 0);
    check_error(READ(CW_SERVER, 0x0A, 0x80, 0, 0, 0, 0), CW_E_FRAME_CONTROL_FRAGMENTED, 0);
}

static void test_control_frame_longer_than_125_bytes_is_refused(void) {
    CHECK_EQ(READ(CW_CLIENT, 0x89, 0x7D).code, CW_OK);
    check_error(READ(CW_CLIENT, 0x89, 0x7E, 0x00, 0x7E), CW_E_FRAME_CONTROL_TOO_LONG, 1);
    check_error(READ(CW_CLIENT, 0x88, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0), CW_E_FRAME_CONTROL_TOO_LONG,
                1);
    check_error(READ(CW_SERVER, 0x8A, 0xFE, 0x00, 0x7E, 0, 0, 0, 0), CW_E_FRAME_CONTROL_TOO_LONG,
                1);
}

static void test_length_that_is_not_in_its_shortest_form_is_refused(void) {
    check_error(READ(CW_CLIENT, 0x82, 0x7E, 0x00, 0x00), CW_E_FRAME_LENGTH_FORM, 2);
    check_error(READ(CW_CLIENT, 0x82, 0x7E, 0x00, 0x7D), CW_E_FRAME_LENGTH_FORM, 2);
    check_error(READ(CW_CLIENT, 0x82, 0x7F, 0, 0, 0, 0, 0, 0, 0, 5), CW_E_FRAME_LENGTH_FORM, 2);
    check_error(READ(CW_CLIENT, 0x82, 0x7F, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF), CW_E_FRAME_LENGTH_FORM,
                2);
    check_error(READ(CW_SERVER, 0x82, 0xFE, 0x00, 0x7D, 1, 2, 3, 4), CW_E_FRAME_LENGTH_FORM, 2);
}

static void test_length_with_its_top_bit_set_is_refused(void) {
    check_error(READ(CW_CLIENT, 0x82, 0x7F, 0x80, 0, 0, 0, 0, 1, 0, 0), CW_E_FRAME_LENGTH_FORM, 2);
    check_error(READ(CW_CLIENT, 0x82, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF),
                CW_E_FRAME_LENGTH_FORM, 2);
}

static void test_server_must_not_mask_and_client_must(void) {
    check_error(READ(CW_CLIENT, 0x81, 0x81, 1, 2, 3, 4), CW_E_FRAME_MASKED, 1);
    check_error(READ(CW_SERVER, 0x81, 0x01), CW_E_FRAME_UNMASKED, 1);
    check_error(READ(CW_CLIENT, 0x89, 0x80, 1, 2, 3, 4), CW_E_FRAME_MASKED, 1);
}

static void test_every_pair_of_first_bytes_has_one_verdict_by_prefix(void) {
    for (int role = 0; role < 2; role++)
        for (uint32_t head = 0; head < 65536; head++) {
            uint8_t p[14] = {(uint8_t)(head >> 8), (uint8_t)head, 0, 0, 0, 0,
                             0, 1, 2, 3, 4, 5, 6, 7};
            (void)read_by_prefixes(p, sizeof p, (cw_role)role);
        }
}

static void test_what_is_written_is_read_back(void) {
    static const uint64_t LENGTHS[] = {0, 1, 125, 126, 127, 255, 256, 65535, 65536, 1ull << 32,
                                       0x7FFFFFFFFFFFFFFFull};
    static const uint8_t MASK[4] = {0xDE, 0xAD, 0xBE, 0xEF};
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++)
        for (int is_masked = 0; is_masked < 2; is_masked++)
            for (int is_final = 0; is_final < 2; is_final++) {
                uint8_t p[CW_FRAME_HEADER_MAX];
                uint32_t n = cw_frame_write(p, CW_BINARY, is_final, LENGTHS[i],
                                            is_masked ? MASK : NULL);
                read_result r = read_by_prefixes(p, n, is_masked ? CW_SERVER : CW_CLIENT);
                CHECK_EQ(r.code, CW_OK);
                CHECK_EQ(r.frame.header_len, n);
                CHECK(r.frame.payload_len == LENGTHS[i]);
                CHECK_EQ(r.frame.is_final, is_final);
                CHECK_EQ(r.frame.opcode, CW_BINARY);
                CHECK_EQ(r.frame.is_masked, is_masked);
                if (is_masked) CHECK_BYTES(r.frame.mask, MASK, 4);
            }
}

static void test_written_headers_are_these_bytes(void) {
    uint8_t p[CW_FRAME_HEADER_MAX];
    CHECK_EQ(cw_frame_write(p, CW_TEXT, 1, 5, NULL), 2);
    CHECK_BYTES(p, "\x81\x05", 2);
    CHECK_EQ(cw_frame_write(p, CW_TEXT, 0, 126, NULL), 4);
    CHECK_BYTES(p, "\x01\x7E\x00\x7E", 4);
    CHECK_EQ(cw_frame_write(p, CW_PONG, 1, 4, (const uint8_t *)"\1\2\3\4"), 6);
    CHECK_BYTES(p, "\x8A\x84\1\2\3\4", 6);
    CHECK_EQ(cw_frame_write(p, CW_BINARY, 1, 65536, (const uint8_t *)"\1\2\3\4"), 14);
    CHECK_BYTES(p, "\x82\xFF\0\0\0\0\0\1\0\0\1\2\3\4", 14);
}

/* 1000-1003, 1007-1014 are in the registry; 1004 reserved; 1005, 1006, 1015 never sent; 3000-3999
 * registered by libraries, 4000-4999 private. */
static void test_close_codes_that_a_peer_may_send(void) {
    for (uint32_t code = 0; code <= 70000; code++) {
        int is_valid = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                       (code >= 3000 && code <= 4999);
        check_note("close code %u", code);
        CHECK_EQ(cw_close_code_is_valid(code), is_valid);
    }
    CHECK_EQ(cw_close_code_is_valid(UINT32_MAX), 0);
}

static void test_close_code_that_answers_an_error(void) {
    CHECK_EQ(cw_close_code_for(CW_E_FRAME_RESERVED_BITS), 1002);
    CHECK_EQ(cw_close_code_for(CW_E_FRAME_MASKED), 1002);
    CHECK_EQ(cw_close_code_for(CW_E_FRAME_CONTINUATION), 1002);
    CHECK_EQ(cw_close_code_for(CW_E_FRAME_CLOSE), 1002);
    CHECK_EQ(cw_close_code_for(CW_E_UTF8), 1007);
    CHECK_EQ(cw_close_code_for(CW_E_INFLATE), 1007);
    CHECK_EQ(cw_close_code_for(CW_E_FRAME_TOO_BIG), 1009);
    CHECK_EQ(cw_close_code_for(CW_E_FRAME_FRAGMENTS), 1009);
    CHECK_EQ(cw_close_code_for(CW_E_MEMORY), 1011);
    for (int code = CW_E_FIRST; code < CW_E_LAST; code++)
        CHECK(cw_close_code_is_valid(cw_close_code_for(code)));
}

static void test_every_code_has_a_name_of_its_own_and_a_sentence(void) {
    for (int code = -5; code < CW_E_LAST + 5; code++) {
        int is_code = (code >= CW_OK && code <= CW_TAKEN) || (code >= CW_E_FIRST && code < CW_E_LAST);
        check_note("code %d", code);
        CHECK_EQ(cw_code_name(code) != NULL, is_code);
        CHECK_EQ(cw_code_text(code) != NULL, is_code);
        for (int other = CW_OK; is_code && other < code; other++)
            if (cw_code_name(other)) CHECK(strcmp(cw_code_name(code), cw_code_name(other)) != 0);
    }
    CHECK(strcmp(cw_code_name(CW_E_JSON_CUT), "json-cut") == 0);
}

static void test_only_the_first_frame_of_a_message_may_be_compressed(void) {
    for (int first = 0; first < 256; first++) {
        uint8_t p[2] = {(uint8_t)first, 0};
        int opcode = first & 15, is_data = opcode == CW_TEXT || opcode == CW_BINARY;
        cw_frame plain, packed;
        uint32_t at = 9;
        int wants = cw_frame_read(p, 2, CW_CLIENT, &plain, &at);
        if ((first & 0x70) == 0x40 && is_data) {
            CHECK_EQ(wants, CW_E_FRAME_RESERVED_BITS);
            CHECK_EQ(cw_frame_read_deflate(p, 2, CW_CLIENT, &packed, &at), CW_OK);
            CHECK_EQ(packed.is_compressed, 1);
            CHECK_EQ(packed.opcode, opcode);
            CHECK_EQ(packed.is_final, first >> 7);
        } else {
            if ((first & 0x70) == 0x40 && opcode > CW_BINARY && opcode < CW_CLOSE)
                wants = CW_E_FRAME_OPCODE; /* the bit is no fault of a data frame's */
            CHECK_EQ(cw_frame_read_deflate(p, 2, CW_CLIENT, &packed, &at), wants);
            if (wants == CW_OK) CHECK_EQ(packed.is_compressed, 0);
            else CHECK_EQ(at, 0);
        }
    }
}

int main(void) {
    RUN(test_only_the_first_frame_of_a_message_may_be_compressed);
    RUN(test_unmasked_frames_of_every_length_form_reach_a_client);
    RUN(test_masked_frames_of_every_length_form_reach_a_server);
    RUN(test_bytes_behind_the_header_are_not_looked_at);
    RUN(test_no_byte_is_need_more);
    RUN(test_each_reserved_bit_is_refused_at_byte_0);
    RUN(test_every_unknown_opcode_is_refused_at_byte_0);
    RUN(test_every_known_opcode_is_read);
    RUN(test_data_frame_may_be_a_fragment_and_control_frame_may_not);
    RUN(test_control_frame_longer_than_125_bytes_is_refused);
    RUN(test_length_that_is_not_in_its_shortest_form_is_refused);
    RUN(test_length_with_its_top_bit_set_is_refused);
    RUN(test_server_must_not_mask_and_client_must);
    RUN(test_every_pair_of_first_bytes_has_one_verdict_by_prefix);
    RUN(test_what_is_written_is_read_back);
    RUN(test_written_headers_are_these_bytes);
    RUN(test_close_codes_that_a_peer_may_send);
    RUN(test_close_code_that_answers_an_error);
    RUN(test_every_code_has_a_name_of_its_own_and_a_sentence);
    return 0;
}

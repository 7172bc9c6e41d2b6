/* test_inflate.c — compressed messages by RFC 7692, RFC 1952 and RFC 1950: bytes in, bytes out. */
#include "packed.h"

enum { MUCH = 1 << 22 };

static const char TICKER[] =
    "{\"stream\":\"btcusdt@bookTicker\",\"data\":{\"u\":400900217,\"s\":\"BTCUSDT\",\"b\":"
    "\"67000.10000000\",\"B\":\"1.50000000\",\"a\":\"67000.20000000\",\"A\":\"0.75000000\"}}";

/* Read a message at once with a fresh object; the code, with the output in `out`. */
static int read_alone(cw_inflate_form form, const uint8_t *p, size_t n, bytes *out, size_t *at) {
    ledger l;
    cw_inflate inflate;
    int code;
    CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), form, 15, 0), CW_OK);
    code = read_message(&inflate, p, (cutting){&n, 1, 4096}, out, MUCH, at);
    cw_inflate_close(&inflate);
    ledger_is_settled(&l);
    return code;
}

static void check_reads(cw_inflate_form form, const bytes *packed, const void *text, size_t n) {
    bytes out = {0};
    size_t at;
    CHECK_EQ(read_alone(form, packed->p, packed->n, &out, &at), CW_OK);
    CHECK_EQ(out.n, n);
    if (n) CHECK_BYTES(out.p, text, n);
    bytes_free(&out);
}

/* It is refused after `where` bytes; `where` beyond the message: when it ends. */
static void check_refused(cw_inflate_form form, const bytes *packed, size_t where) {
    bytes out = {0};
    size_t at;
    CHECK_EQ(read_alone(form, packed->p, packed->n, &out, &at), CW_E_INFLATE);
    CHECK_EQ(at, where < packed->n ? where : packed->n);
    bytes_free(&out);
}

typedef struct message {
    const char *packed;
    size_t packed_n;
    const char *text;
} message;
#define MESSAGE(packed, text) {packed, sizeof packed - 1, text}

/* Read the messages one after the other, the first cut at `a` and `b`; `ends` 1: its end comes
 * behind its last piece. */
static void check_cut(const message *m, size_t count, int keeps_context, size_t a, size_t b,
                      size_t room, size_t ends) {
    ledger l;
    cw_inflate inflate;
    CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_RAW, 15, keeps_context),
             CW_OK);
    for (size_t i = 0; i < count; i++) {
        size_t cuts[] = {a, b, m[i].packed_n, m[i].packed_n}, at;
        bytes out = {0};
        cutting cut = i == 0 ? (cutting){cuts, 3 + ends, room} : (cutting){cuts + 2, 1, room};
        check_note("message %zu, cut at %zu and %zu, room %zu", i, a, b, room);
        CHECK_EQ(read_message(&inflate, (const uint8_t *)m[i].packed, cut, &out, MUCH, &at), CW_OK);
        CHECK_EQ(out.n, strlen(m[i].text));
        if (out.n) CHECK_BYTES(out.p, m[i].text, out.n);
        bytes_free(&out);
    }
    cw_inflate_close(&inflate);
    ledger_is_settled(&l);
}

static void check_messages(const message *m, size_t count, int keeps_context) {
    for (size_t a = 0; a <= m[0].packed_n; a++)
        for (size_t b = a; b <= m[0].packed_n; b++)
            for (size_t room = 1; room <= 6; room += 1 + room)
                for (size_t ends = 0; ends < 2; ends++)
                    check_cut(m, count, keeps_context, a, b, room, ends);
}

/* ---------------------------------------------------------------- RFC 7692 section 7.2.3 */

static void test_the_messages_of_the_standard_cut_at_every_position(void) {
    static const message FIXED[] = {MESSAGE("\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello")};
    static const message SHARED[] = {MESSAGE("\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"),
                                     MESSAGE("\xf2\x00\x11\x00\x00", "Hello")};
    static const message STORED[] = {
        MESSAGE("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello")};
    static const message FINAL[] = {MESSAGE("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello")};
    static const message TWO_BLOCKS[] = {
        MESSAGE("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello")};
    static const message EMPTY[] = {MESSAGE("\x00", ""),
                                    MESSAGE("\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello")};
    for (int keeps = 0; keeps < 2; keeps++) {
        check_messages(FIXED, 1, keeps);
        check_messages(STORED, 1, keeps);
        check_messages(FINAL, 1, keeps);
        check_messages(TWO_BLOCKS, 1, keeps);
        check_messages(EMPTY, 2, keeps);
    }
    check_messages(SHARED, 2, 1);
}

static void test_without_context_a_message_cannot_refer_to_the_one_before(void) {
    static const char FIRST[] = "\xf2\x48\xcd\xc9\xc9\x07\x00", SECOND[] = "\xf2\x00\x11\x00\x00";
    size_t n = sizeof FIRST - 1, n2 = sizeof SECOND - 1, at;
    bytes out = {0};
    ledger l;
    cw_inflate inflate;
    CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_RAW, 15, 0), CW_OK);
    CHECK_EQ(read_message(&inflate, (const uint8_t *)FIRST, (cutting){&n, 1, 64}, &out, MUCH, &at),
             CW_OK);
    CHECK_EQ(
        read_message(&inflate, (const uint8_t *)SECOND, (cutting){&n2, 1, 64}, &out, MUCH, &at),
        CW_E_INFLATE);
    CHECK_EQ(out.n, 6); /* the H of the second came out before its match was seen */
    bytes_free(&out);
    cw_inflate_close(&inflate);
    ledger_is_settled(&l);
}

static void test_a_message_without_any_byte_is_empty_and_harms_nothing(void) {
    static const message AROUND[] = {
        MESSAGE("", ""), MESSAGE("\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"),
        MESSAGE("", ""), MESSAGE("\xf2\x00\x11\x00\x00", "Hello"),
        MESSAGE("", "")};
    check_messages(AROUND, 5, 1);
}

/* ---------------------------------------------------------------- final blocks */

static void test_a_message_may_end_right_behind_a_final_block(void) {
    static const message BARE[] = {MESSAGE("\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"),
                                   MESSAGE("\xf2\x00\x11\x00\x00", "Hello")};
    check_messages(BARE, 2, 1);
}

static void test_a_message_after_a_final_block_may_refer_back_over_it(void) {
    static const message OVER[] = {MESSAGE("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"),
                                   MESSAGE("\xf2\x00\x11\x00\x00", "Hello")};
    check_messages(OVER, 2, 1);
}

static void test_blocks_behind_a_final_one_may_refer_back_over_it(void) {
    for (int keeps = 0; keeps < 2; keeps++) {
        bits b = {0};
        message m;
        put_fixed(&b, 1, "Hello");
        put_padding(&b);
        put_block_head(&b, 1, 1); /* final too */
        put_match(&b, 5);
        put_block_end(&b);
        put_padding(&b);
        put_block_head(&b, 0, 1);
        put_match(&b, 8);
        put_literal(&b, '!');
        put_block_end(&b);
        put_message_end(&b);
        m = (message){(const char *)b.out.p, b.out.n, "HelloHelHel!"};
        check_messages(&m, 1, keeps);
        bytes_free(&b.out);
    }
}

static void test_a_final_stored_block_whose_tail_was_taken_off_ends_a_message(void) {
    bits b = {0};
    message m[2] = {{0}, MESSAGE("\xf2\x00\x11\x00\x00", "Hello")};
    put_fixed(&b, 0, "Hello");
    put_block_head(&b, 1, 0);
    put_padding(&b);
    m[0] = (message){(const char *)b.out.p, b.out.n, "Hello"};
    check_messages(m, 2, 1);
    bytes_free(&b.out);
}

static void test_final_blocks_without_end_cost_no_more_than_their_bytes(void) {
    enum { N = 1 << 20 };
    uint8_t *p = malloc(N + 1);
    size_t n = N + 1, at;
    bytes out = {0};
    for (size_t i = 0; i < N; i++) p[i] = i & 1 ? 0x00 : 0x03;
    p[N] = 0;
    CHECK_EQ(read_alone(CW_INFLATE_RAW, p, n, &out, &at), CW_OK);
    CHECK_EQ(out.n, 0);
    free(p);
}

/* ---------------------------------------------------------------- windows */

static void test_every_window_size_reads_what_zlib_writes_for_it(void) {
    dice d = {3};
    for (int bits = 9; bits <= 15; bits++)
        for (int own = bits; own <= 15; own++)
            for (int keeps = 0; keeps < 2; keeps++) {
                ledger l;
                cw_inflate inflate;
                z_stream *z = packer_of(-bits, 9);
                check_note("written with %d bits, read with %d", bits, own);
                CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_RAW, own,
                                         keeps),
                         CW_OK);
                for (int turn = 0; turn < 12; turn++) {
                    bytes text = {0}, packed, out = {0};
                    size_t at, cuts[2];
                    for (uint32_t k = 0; k < 1 + below(&d, 400); k++)
                        put(&text, TICKER + below(&d, 60), 1 + below(&d, 80));
                    if (!keeps) deflateReset(z);
                    packed = pack_message(z, text.p, text.n);
                    cuts[0] = below(&d, (uint32_t)packed.n + 1);
                    cuts[1] = packed.n;
                    CHECK_EQ(read_message(&inflate, packed.p,
                                          (cutting){cuts, 2, 1 + below(&d, 5000)}, &out, MUCH, &at),
                             CW_OK);
                    CHECK_EQ(out.n, text.n);
                    CHECK_BYTES(out.p, text.p, text.n);
                    bytes_free(&text);
                    bytes_free(&packed);
                    bytes_free(&out);
                }
                packer_free(z);
                cw_inflate_close(&inflate);
                ledger_is_settled(&l);
            }
}

/* The largest distance of each window is read, one more is refused; one byte of room a call, so
 * that the output of the call at hand never helps. */
static void test_a_distance_beyond_the_window_is_refused(void) {
    for (int window = 8; window <= 15; window++)
        for (uint32_t more = 0; more < (window == 15 ? 1 : 2); more++) {
            uint32_t size = 1u << window;
            bits b = {0};
            bytes out = {0};
            size_t at, n;
            ledger l;
            cw_inflate inflate;
            put_block_head(&b, 0, 1);
            for (uint32_t i = 0; i < size + 40; i++) put_literal(&b, (uint8_t)(i % 251));
            put_match(&b, size + more);
            put_block_end(&b);
            put_message_end(&b);
            n = b.out.n;
            check_note("window %d, %u more", window, more);
            CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_RAW, window, 0),
                     CW_OK);
            CHECK_EQ(read_message(&inflate, b.out.p, (cutting){&n, 1, 1}, &out, MUCH, &at),
                     more ? CW_E_INFLATE : CW_OK);
            CHECK_EQ(out.n, size + 40 + (more ? 0 : 3));
            for (uint32_t i = 0; !more && i < 3; i++)
                CHECK_EQ(out.p[size + 40 + i], (40 + i) % 251);
            cw_inflate_close(&inflate);
            ledger_is_settled(&l);
            bytes_free(&b.out);
            bytes_free(&out);
        }
}

static void test_a_distance_beyond_the_beginning_is_refused_at_its_byte(void) {
    for (uint32_t distance = 4; distance <= 32768; distance = distance * 2 + 1) {
        bits b = {0};
        size_t where;
        put_block_head(&b, 0, 1);
        for (int i = 0; i < 3; i++) put_literal(&b, 'x');
        put_match(&b, distance);
        where = b.out.n + (b.count > 0);
        put_block_end(&b);
        for (int i = 0; i < 20; i++) put_literal(&b, 'y');
        check_note("distance %u", distance);
        check_refused(CW_INFLATE_RAW, &b.out, where);
        bytes_free(&b.out);
    }
}

/* ---------------------------------------------------------------- what is not deflate */

#define REFUSED_AT(form, text, where)                                                           \
    check_refused(form, &(bytes){(uint8_t *)(uintptr_t)text, sizeof text - 1, 0}, where)

static void test_bad_blocks_are_refused_where_they_become_so(void) {
    REFUSED_AT(CW_INFLATE_RAW, "\x06zzzz", 1);                     /* block type 3 */
    REFUSED_AT(CW_INFLATE_RAW, "\x00\x05\x00\xfb\xffHello\x00", 5); /* length and complement */
    REFUSED_AT(CW_INFLATE_RAW, "\xfc\xff\xff\xff\xff\xff", 3);     /* 288 length codes */
    { /* no code for the end of the block: 3 + 14 + 12 bits of head, then 258 lengths of a bit */
        uint8_t none[40] = {0x04};
        check_refused(CW_INFLATE_RAW, &(bytes){none, sizeof none, 0}, 36);
    }
}

static void test_a_message_that_ends_too_early_is_refused(void) {
    bytes cut[3];
    z_stream *z = packer_of(-15, 6);
    cut[0] = pack_message(z, TICKER, strlen(TICKER));
    packer_free(z);
    cut[1] = pack(31, 6, TICKER, strlen(TICKER));
    cut[2] = pack(15, 6, TICKER, strlen(TICKER));
    for (int form = 0; form < 3; form++) {
        check_reads((cw_inflate_form)form, &cut[form], TICKER, strlen(TICKER));
        for (size_t n = form == CW_INFLATE_RAW ? 1 : 0; n < cut[form].n; n++) {
            bytes out = {0};
            size_t at;
            check_note("form %d, %zu bytes of %zu", form, n, cut[form].n);
            CHECK_EQ(read_alone((cw_inflate_form)form, cut[form].p, n, &out, &at), CW_E_INFLATE);
            CHECK_EQ(at, n);
            CHECK(out.n <= strlen(TICKER));
            if (out.n) CHECK_BYTES(out.p, TICKER, out.n);
            bytes_free(&out);
        }
        bytes_free(&cut[form]);
    }
}

static void test_a_block_that_would_take_the_tail_for_its_data_is_refused(void) {
    REFUSED_AT(CW_INFLATE_RAW, "\x00\x04\x00\xfb\xff", 99);
    REFUSED_AT(CW_INFLATE_RAW, "\x00\x08\x00\xf7\xff" "abcd", 99);
    REFUSED_AT(CW_INFLATE_RAW, "\xf2\x48\xcd\xc9\xc9\x07", 99); /* no empty block at the end */
    REFUSED_AT(CW_INFLATE_RAW, "\x03", 99); /* a final block that the tail would complete */
}

/* Whatever bit is wrong: an error or some output, never more than the room; and never another text
 * where a checksum watches. */
static void test_every_flipped_bit_is_refused_or_read_within_bounds(void) {
    bytes text = {0}, packed[3];
    z_stream *z = packer_of(-15, 9);
    for (int i = 0; i < 3; i++) put_text(&text, TICKER);
    put_text(&text, "0123456789abcdefghijklmnopqrstuvwxyz");
    packed[0] = pack_message(z, text.p, text.n);
    packer_free(z);
    packed[1] = pack(31, 9, text.p, text.n);
    packed[2] = pack(15, 9, text.p, text.n);
    for (int form = 0; form < 3; form++) {
        uint32_t accepted = 0;
        for (size_t bit = 0; bit < 8 * packed[form].n; bit++) {
            bytes out = {0};
            size_t at;
            int code;
            check_note("form %d, bit %zu", form, bit);
            packed[form].p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            code = read_alone((cw_inflate_form)form, packed[form].p, packed[form].n, &out, &at);
            packed[form].p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK(code == CW_OK || code == CW_E_INFLATE);
            CHECK(at <= packed[form].n);
            if (form != CW_INFLATE_RAW && code == CW_OK) {
                accepted++; /* the time, the system, padding */
                CHECK_EQ(out.n, text.n);
                CHECK_BYTES(out.p, text.p, text.n);
            }
            bytes_free(&out);
        }
        CHECK(accepted <= 8 * 8);
        bytes_free(&packed[form]);
    }
    bytes_free(&text);
}

/* ---------------------------------------------------------------- bombs */

static void test_a_bomb_gives_no_more_than_the_room_and_holds_no_memory(void) {
    enum { OUTPUT = 64 << 20, ROOM = 4096 };
    uint8_t *zeros = calloc(1, OUTPUT), room[ROOM];
    for (int form = 0; form < 3; form++) {
        static const int BITS[] = {-15, 31, 15};
        bytes packed = pack(BITS[form], 9, zeros, OUTPUT);
        size_t from = 0, total = 0, used, made;
        ledger l;
        cw_inflate inflate;
        CHECK(packed.n < OUTPUT / 1000);
        CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), (cw_inflate_form)form, 15, 1),
                 CW_OK);
        while (total < 1 << 20) { /* the caller's cap */
            CHECK_EQ(cw_inflate_feed(&inflate, packed.p + from, packed.n - from, &used, room, ROOM,
                                     &made),
                     CW_FULL);
            CHECK_EQ(made, ROOM);
            from += used;
            total += made;
        }
        CHECK(from < packed.n / 32);
        CHECK(l.bytes_max <= 64 << 10);
        CHECK_EQ(cw_inflate_end(&inflate, room, 1, &made), CW_FULL);
        cw_inflate_close(&inflate);
        ledger_is_settled(&l);
        bytes_free(&packed);
    }
    free(zeros);
}

static void test_output_larger_than_a_step_comes_in_one_call_where_there_is_room(void) {
    enum { SIZE = 300000 };
    uint8_t *text = malloc(SIZE), *to = malloc(SIZE + 1);
    dice d = {11};
    for (int level = 0; level <= 9; level += 3) {
        bytes packed;
        size_t used, made;
        ledger l;
        cw_inflate inflate;
        z_stream *z = packer_of(-15, level);
        for (size_t i = 0; i < SIZE; i++) text[i] = (uint8_t)below(&d, 4 + 60 * (level == 0));
        packed = pack_message(z, text, SIZE);
        packer_free(z);
        CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_RAW, 15, 1), CW_OK);
        CHECK_EQ(cw_inflate_feed(&inflate, packed.p, packed.n, &used, to, SIZE + 1, &made), CW_OK);
        CHECK_EQ(used, packed.n);
        CHECK_EQ(made, SIZE);
        CHECK_BYTES(to, text, SIZE);
        CHECK_EQ(cw_inflate_end(&inflate, NULL, 0, &made), CW_OK);
        cw_inflate_close(&inflate);
        bytes_free(&packed);
    }
    free(text);
    free(to);
}

/* ---------------------------------------------------------------- gzip and zlib */

enum { FTEXT = 1, FHCRC = 2, FEXTRA = 4, FNAME = 8, FCOMMENT = 16 };

/* A member of RFC 1952 with these flags, by hand; *head_n is the size of its header. */
static bytes member_of(const char *text, int flags, size_t *head_n) {
    bytes b = {0}, raw = pack(-15, 6, text, strlen(text));
    uint32_t crc = (uint32_t)crc32(0, (const Bytef *)text, (uInt)strlen(text));
    uint32_t size = (uint32_t)strlen(text);
    uint8_t head[10] = {0x1F, 0x8B, 8, (uint8_t)flags, 1, 2, 3, 4, 0, 255};
    put(&b, head, sizeof head);
    if (flags & FEXTRA) put(&b, "\x06\x00" "CW\x02\x00zz", 8);
    if (flags & FNAME) put(&b, "ticker.json", 12);
    if (flags & FCOMMENT) put(&b, "made by hand", 13);
    if (flags & FHCRC) {
        uint32_t head_crc = (uint32_t)crc32(0, b.p, (uInt)b.n);
        put(&b, &(uint8_t[]){(uint8_t)head_crc, (uint8_t)(head_crc >> 8)}[0], 2);
    }
    *head_n = b.n;
    put(&b, raw.p, raw.n);
    for (int i = 0; i < 4; i++) put(&b, &(uint8_t){(uint8_t)(crc >> 8 * i)}, 1);
    for (int i = 0; i < 4; i++) put(&b, &(uint8_t){(uint8_t)(size >> 8 * i)}, 1);
    bytes_free(&raw);
    return b;
}

static void test_every_kind_of_gzip_header_is_read_cut_at_every_position(void) {
    for (int flags = 0; flags < 32; flags++) {
        size_t head_n;
        bytes b = member_of("Hello, hello, hello", flags, &head_n);
        ledger l;
        cw_inflate inflate;
        CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_GZIP, 15, 0), CW_OK);
        for (size_t a = 0; a <= b.n; a++) {
            size_t cuts[] = {a, b.n}, at;
            bytes out = {0};
            check_note("flags %d, cut at %zu", flags, a);
            CHECK_EQ(read_message(&inflate, b.p, (cutting){cuts, 2, 1 + a % 9}, &out, MUCH, &at),
                     CW_OK);
            CHECK_EQ(out.n, 19);
            CHECK_BYTES(out.p, "Hello, hello, hello", 19);
            bytes_free(&out);
        }
        cw_inflate_close(&inflate);
        ledger_is_settled(&l);
        bytes_free(&b);
    }
}

static void check_wrong_byte(cw_inflate_form form, bytes *b, size_t at, uint8_t change,
                             size_t where) {
    check_note("form %d, byte %zu of %zu changed", (int)form, at, b->n);
    b->p[at] ^= change;
    check_refused(form, b, where);
    b->p[at] ^= change;
}

static void test_a_bad_gzip_header_is_refused_in_it(void) {
    size_t head_n;
    bytes b = member_of("Hello", FHCRC | FNAME, &head_n);
    check_wrong_byte(CW_INFLATE_GZIP, &b, 0, 0x01, 2);
    check_wrong_byte(CW_INFLATE_GZIP, &b, 1, 0x01, 2);
    check_wrong_byte(CW_INFLATE_GZIP, &b, 2, 0x01, 4);
    for (int bit = 5; bit < 8; bit++) check_wrong_byte(CW_INFLATE_GZIP, &b, 3, 1 << bit, 4);
    for (size_t at = 4; at < head_n; at++)
        if (at < 10 || at >= head_n - 2) /* a changed name is refused, too, where it ends */
            check_wrong_byte(CW_INFLATE_GZIP, &b, at, 0x10, head_n);
    bytes_free(&b);
}

static void test_a_wrong_checksum_or_size_is_refused_behind_it(void) {
    size_t head_n;
    bytes b = member_of("Hello", 0, &head_n);
    for (size_t i = 1; i <= 4; i++) check_wrong_byte(CW_INFLATE_GZIP, &b, b.n - i, 0x80, b.n);
    for (size_t i = 5; i <= 8; i++) check_wrong_byte(CW_INFLATE_GZIP, &b, b.n - i, 0x80, b.n - 4);
    bytes_free(&b);
    b = pack(15, 6, "Hello", 5);
    for (size_t i = 1; i <= 4; i++) check_wrong_byte(CW_INFLATE_ZLIB, &b, b.n - i, 0x80, b.n);
    bytes_free(&b);
}

static void test_bytes_behind_a_member_and_a_second_member_are_refused_there(void) {
    for (int form = CW_INFLATE_GZIP; form <= CW_INFLATE_ZLIB; form++) {
        bytes b = pack(form == CW_INFLATE_GZIP ? 31 : 15, 6, "Hello", 5), twice = {0}, padded = {0};
        put(&twice, b.p, b.n);
        put(&twice, b.p, b.n);
        put(&padded, b.p, b.n);
        put(&padded, "", 1);
        check_refused((cw_inflate_form)form, &twice, b.n);
        check_refused((cw_inflate_form)form, &padded, b.n);
        for (size_t a = 0; a <= padded.n; a++) { /* in a piece of its own, too */
            size_t cuts[] = {a, padded.n}, at;
            bytes out = {0};
            ledger l;
            cw_inflate inflate;
            CHECK_EQ(
                cw_inflate_open(&inflate, ledger_lend(&l, NEVER), (cw_inflate_form)form, 15, 0),
                CW_OK);
            CHECK_EQ(read_message(&inflate, padded.p, (cutting){cuts, 2, 5}, &out, MUCH, &at),
                     CW_E_INFLATE);
            CHECK_EQ(at, b.n);
            CHECK_EQ(out.n, 5);
            bytes_free(&out);
            cw_inflate_close(&inflate);
        }
        bytes_free(&b);
        bytes_free(&twice);
        bytes_free(&padded);
    }
}

static void test_a_zlib_header_that_does_not_hold_is_refused(void) {
    bytes b = pack(15, 6, "Hello", 5), with = {0};
    z_stream *z = packer_of(15, 6);
    check_wrong_byte(CW_INFLATE_ZLIB, &b, 0, 0x01, 2);
    check_wrong_byte(CW_INFLATE_ZLIB, &b, 1, 0x01, 2);
    check_refused(CW_INFLATE_GZIP, &b, 2);
    bytes_free(&b);
    CHECK_EQ(deflateSetDictionary(z, (const Bytef *)"Hello", 5), Z_OK);
    pack_more(&with, z, "Hello", 5, Z_FINISH);
    packer_free(z);
    check_refused(CW_INFLATE_ZLIB, &with, 6); /* a preset dictionary */
    bytes_free(&with);
}

static void test_a_zlib_window_larger_than_asked_for_is_refused(void) {
    for (int bits = 9; bits <= 15; bits++)
        for (int own = 8; own <= 15; own++) {
            bytes b = pack(bits, 6, "Hello", 5), out = {0};
            size_t at, n = b.n;
            ledger l;
            cw_inflate inflate;
            CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_ZLIB, own, 0),
                     CW_OK);
            CHECK_EQ(read_message(&inflate, b.p, (cutting){&n, 1, 9}, &out, MUCH, &at),
                     bits > own ? CW_E_INFLATE : CW_OK);
            cw_inflate_close(&inflate);
            bytes_free(&b);
            bytes_free(&out);
        }
}

static void test_members_follow_each_other_as_messages(void) {
    for (int form = CW_INFLATE_GZIP; form <= CW_INFLATE_ZLIB; form++) {
        bytes b = pack(form == CW_INFLATE_GZIP ? 31 : 15, 6, TICKER, strlen(TICKER));
        ledger l;
        cw_inflate inflate;
        long asked = 0;
        CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), (cw_inflate_form)form, 15, 1),
                 CW_OK);
        for (int turn = 0; turn < 50; turn++) {
            size_t at, n = b.n;
            bytes out = {0};
            CHECK_EQ(read_message(&inflate, b.p, (cutting){&n, 1, 40}, &out, MUCH, &at), CW_OK);
            CHECK_EQ(out.n, strlen(TICKER));
            bytes_free(&out);
            if (turn == 0) asked = l.asked;
        }
        CHECK_EQ(l.asked, asked); /* nothing is asked for after the first message */
        cw_inflate_close(&inflate);
        ledger_is_settled(&l);
        bytes_free(&b);
    }
}

/* ---------------------------------------------------------------- use and memory */

static void test_memory_that_runs_out_at_any_block_is_told_and_none_is_lost(void) {
    bytes packed[3];
    z_stream *z = packer_of(-15, 6);
    packed[0] = pack_message(z, TICKER, strlen(TICKER));
    packer_free(z);
    packed[1] = pack(31, 6, TICKER, strlen(TICKER));
    packed[2] = pack(15, 6, TICKER, strlen(TICKER));
    for (int form = 0; form < 3; form++) {
        int was_read = 0;
        for (long dry_at = 0; !was_read; dry_at++) {
            ledger l;
            cw_inflate inflate;
            size_t at, n = packed[form].n;
            bytes out = {0};
            int code = cw_inflate_open(&inflate, ledger_lend(&l, dry_at), (cw_inflate_form)form, 15,
                                       1);
            check_note("form %d, block %ld", form, dry_at);
            if (code == CW_OK)
                code = read_message(&inflate, packed[form].p, (cutting){&n, 1, 33}, &out, MUCH,
                                    &at);
            else
                ledger_is_settled(&l);
            CHECK(code == CW_OK || code == CW_E_MEMORY);
            was_read = code == CW_OK;
            if (!was_read && inflate.stream) {
                size_t used, made;
                uint8_t to[8];
                CHECK_EQ(cw_inflate_feed(&inflate, packed[form].p, n, &used, to, 8, &made),
                         CW_E_MEMORY);
                CHECK_EQ(cw_inflate_end(&inflate, to, 8, &made), CW_E_MEMORY);
                CHECK_EQ(used + made, 0);
            }
            CHECK(dry_at < 10);
            CHECK(dry_at >= 3 || !was_read); /* the stream, its state, its window */
            cw_inflate_close(&inflate);
            ledger_is_settled(&l);
            bytes_free(&out);
        }
        bytes_free(&packed[form]);
    }
}

static void test_what_is_closed_reads_nothing_and_may_be_closed_again(void) {
    cw_inflate inflate = {0};
    ledger l;
    uint8_t to[8];
    size_t used = 9, made = 9;
    cw_inflate_close(&inflate);
    CHECK_EQ(cw_inflate_feed(&inflate, (const uint8_t *)"\0", 1, &used, to, 8, &made),
             CW_E_INFLATE);
    CHECK_EQ(used + made, 0);
    CHECK_EQ(cw_inflate_end(&inflate, to, 8, &made), CW_E_INFLATE);
    for (int turn = 0; turn < 3; turn++) {
        CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_RAW, 15, 1), CW_OK);
        cw_inflate_close(&inflate);
        cw_inflate_close(&inflate);
        ledger_is_settled(&l);
    }
    for (int bits = -20; bits < 40; bits++) {
        int is_good = bits >= 8 && bits <= 15;
        for (int form = 0; form < 3; form++) {
            CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), (cw_inflate_form)form, bits,
                                     1),
                     is_good ? CW_OK : CW_FULL);
            CHECK_EQ(inflate.stream != NULL, is_good);
            cw_inflate_close(&inflate);
            ledger_is_settled(&l);
        }
    }
}

static void test_an_error_stays_until_the_object_is_closed(void) {
    cw_inflate inflate;
    ledger l;
    uint8_t to[8];
    size_t used, made;
    CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_RAW, 15, 1), CW_OK);
    CHECK_EQ(cw_inflate_feed(&inflate, (const uint8_t *)"\x06", 1, &used, to, 8, &made),
             CW_E_INFLATE);
    CHECK_EQ(used, 1);
    for (int turn = 0; turn < 3; turn++) {
        CHECK_EQ(cw_inflate_feed(&inflate, (const uint8_t *)"\x00", 1, &used, to, 8, &made),
                 CW_E_INFLATE);
        CHECK_EQ(used + made, 0);
        CHECK_EQ(cw_inflate_end(&inflate, to, 8, &made), CW_E_INFLATE);
    }
    cw_inflate_close(&inflate);
    ledger_is_settled(&l);
}

static void test_no_room_and_no_input_are_allowed(void) {
    static const uint8_t HELLO[] = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    cw_inflate inflate;
    ledger l;
    uint8_t to[8];
    size_t used, made;
    CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l, NEVER), CW_INFLATE_RAW, 15, 1), CW_OK);
    CHECK_EQ(cw_inflate_feed(&inflate, NULL, 0, &used, NULL, 0, &made), CW_OK);
    CHECK_EQ(cw_inflate_last(&inflate, NULL, 0, &used, NULL, 0, &made), CW_OK);
    CHECK_EQ(used + made, 0);
    CHECK_EQ(cw_inflate_last(&inflate, HELLO, 7, &used, NULL, 0, &made), CW_FULL);
    CHECK_EQ(used + made, 0);
    CHECK_EQ(cw_inflate_feed(&inflate, HELLO, 7, &used, NULL, 0, &made), CW_FULL);
    CHECK_EQ(used + made, 0);
    CHECK_EQ(cw_inflate_feed(&inflate, HELLO, 7, &used, to, 5, &made), CW_FULL);
    CHECK_EQ(made, 5);
    CHECK_EQ(cw_inflate_feed(&inflate, HELLO + used, 7 - used, &used, to + 5, 1, &made), CW_OK);
    CHECK_EQ(made, 0);
    CHECK_EQ(cw_inflate_end(&inflate, NULL, 0, &made), CW_OK);
    CHECK_BYTES(to, "Hello", 5);
    cw_inflate_close(&inflate);
    ledger_is_settled(&l);
}

static void test_an_object_may_be_moved_between_calls(void) {
    static const uint8_t HELLO[] = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    ledger l;
    cw_inflate here, there;
    uint8_t to[8];
    size_t used, made, total;
    CHECK_EQ(cw_inflate_open(&here, ledger_lend(&l, NEVER), CW_INFLATE_RAW, 15, 1), CW_OK);
    CHECK_EQ(cw_inflate_feed(&here, HELLO, 3, &used, to, 8, &made), CW_OK);
    total = made;
    there = here;
    memset(&here, 0xEE, sizeof here);
    CHECK_EQ(cw_inflate_feed(&there, HELLO + 3, 4, &used, to + total, 8 - total, &made), CW_OK);
    CHECK_EQ(total + made, 5);
    CHECK_EQ(cw_inflate_end(&there, NULL, 0, &made), CW_OK);
    cw_inflate_close(&there);
    ledger_is_settled(&l);
}

int main(void) {
    RUN(test_the_messages_of_the_standard_cut_at_every_position);
    RUN(test_without_context_a_message_cannot_refer_to_the_one_before);
    RUN(test_a_message_without_any_byte_is_empty_and_harms_nothing);
    RUN(test_a_message_may_end_right_behind_a_final_block);
    RUN(test_a_message_after_a_final_block_may_refer_back_over_it);
    RUN(test_blocks_behind_a_final_one_may_refer_back_over_it);
    RUN(test_a_final_stored_block_whose_tail_was_taken_off_ends_a_message);
    RUN(test_final_blocks_without_end_cost_no_more_than_their_bytes);
    RUN(test_every_window_size_reads_what_zlib_writes_for_it);
    RUN(test_a_distance_beyond_the_window_is_refused);
    RUN(test_a_distance_beyond_the_beginning_is_refused_at_its_byte);
    RUN(test_bad_blocks_are_refused_where_they_become_so);
    RUN(test_a_message_that_ends_too_early_is_refused);
    RUN(test_a_block_that_would_take_the_tail_for_its_data_is_refused);
    RUN(test_every_flipped_bit_is_refused_or_read_within_bounds);
    RUN(test_a_bomb_gives_no_more_than_the_room_and_holds_no_memory);
    RUN(test_output_larger_than_a_step_comes_in_one_call_where_there_is_room);
    RUN(test_every_kind_of_gzip_header_is_read_cut_at_every_position);
    RUN(test_a_bad_gzip_header_is_refused_in_it);
    RUN(test_a_wrong_checksum_or_size_is_refused_behind_it);
    RUN(test_bytes_behind_a_member_and_a_second_member_are_refused_there);
    RUN(test_a_zlib_header_that_does_not_hold_is_refused);
    RUN(test_a_zlib_window_larger_than_asked_for_is_refused);
    RUN(test_members_follow_each_other_as_messages);
    RUN(test_memory_that_runs_out_at_any_block_is_told_and_none_is_lost);
    RUN(test_what_is_closed_reads_nothing_and_may_be_closed_again);
    RUN(test_an_error_stays_until_the_object_is_closed);
    RUN(test_no_room_and_no_input_are_allowed);
    RUN(test_an_object_may_be_moved_between_calls);
    return 0;
}

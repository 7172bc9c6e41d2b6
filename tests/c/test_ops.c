/* test_ops.c — masking and the ASCII prefix: every level against a byte loop. */
#include "fixture.h"

static void test_table_of_a_level_is_never_above_the_processor(void) {
    for (int level = 0; level < LEVELS; level++) {
        const cw_ops *ops = cw_ops_for((cw_level)level);
        CHECK(ops->level <= cw_level_best());
        CHECK(ops->level <= (cw_level)level);
        if (level <= (int)cw_level_best()) CHECK_EQ(ops->level, level);
        CHECK(ops->name != NULL);
    }
    printf("   best level: %s\n", cw_ops_for(cw_level_best())->name);
}

/* Masking works in place on exactly n bytes, unaligned, with any phase. */
static void test_masking_every_length_alignment_and_phase(void) {
    static const uint8_t MASK[4] = {0x37, 0xFA, 0x21, 0x3D};
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops);
    for (uint32_t level = 0; level < count; level++)
        for (size_t n = 0; n <= 600; n += n < 300 ? 1 : 37)
            for (size_t phase = 0; phase < 5; phase++) {
                size_t shift = (n + phase) % 3;
                uint8_t *memory = malloc(n + shift + 1), *p = memory + 1 + shift;
                for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(i * 7 + 3);
                memory[0] = 0x55;
                ops[level]->mask(p, n, MASK, phase);
                for (size_t i = 0; i < n; i++)
                    CHECK_EQ(p[i], (uint8_t)(i * 7 + 3) ^ MASK[(i + phase) & 3]);
                CHECK_EQ(memory[0], 0x55);
                free(memory);
            }
}

static void test_masking_in_pieces_is_masking_at_once(void) {
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops);
    dice d = {21};
    for (int turn = 0; turn < 20000; turn++) {
        const cw_ops *o = ops[below(&d, count)];
        uint8_t whole[700], pieces[700], mask[4];
        size_t n = below(&d, sizeof whole + 1), at = 0;
        for (int i = 0; i < 4; i++) mask[i] = (uint8_t)roll(&d);
        for (size_t i = 0; i < n; i++) whole[i] = pieces[i] = (uint8_t)roll(&d);
        o->mask(whole, n, mask, 0);
        while (at < n) {
            size_t piece = 1 + below(&d, (uint32_t)(n - at));
            o->mask(pieces + at, piece, mask, at);
            at += piece;
        }
        CHECK_BYTES(whole, pieces, n);
    }
}

static void test_masking_twice_is_not_masking(void) {
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops);
    for (uint32_t level = 0; level < count; level++) {
        uint8_t text[100];
        memset(text, 'x', sizeof text);
        ops[level]->mask(text, sizeof text, (const uint8_t *)"\1\2\3\4", 3);
        ops[level]->mask(text, sizeof text, (const uint8_t *)"\1\2\3\4", 3);
        for (size_t i = 0; i < sizeof text; i++) CHECK_EQ(text[i], 'x');
    }
}

static void test_huge_phase_counts_modulo_4(void) {
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops);
    for (uint32_t level = 0; level < count; level++) {
        uint8_t a[70] = {0}, b[70] = {0};
        ops[level]->mask(a, sizeof a, (const uint8_t *)"\1\2\3\4", SIZE_MAX);
        ops[level]->mask(b, sizeof b, (const uint8_t *)"\1\2\3\4", 3);
        CHECK_BYTES(a, b, sizeof a);
    }
}

static void test_ascii_prefix_finds_the_first_high_bit_at_every_place(void) {
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops);
    for (uint32_t level = 0; level < count; level++)
        for (size_t n = 0; n <= 260; n++) {
            uint8_t *p = malloc(n + 1);
            memset(p, 0x7F, n);
            p[n] = 0xFF;
            CHECK_EQ(ops[level]->ascii_prefix(p, n), n);
            for (size_t at = 0; at < n; at += 1 + n / 40) {
                memset(p, 0x7F, n);
                p[at] = 0x80;
                p[n - 1] |= at % 2 ? 0x80 : 0;
                CHECK_EQ(ops[level]->ascii_prefix(p, n), at);
            }
            free(p);
        }
}

static void test_ascii_prefix_of_random_bytes_is_that_of_a_loop(void) {
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops);
    dice d = {22};
    for (int turn = 0; turn < 50000; turn++) {
        size_t n = below(&d, 300), want = 0;
        uint8_t *p = malloc(n ? n : 1);
        for (size_t i = 0; i < n; i++)
            p[i] = (uint8_t)(roll(&d) & (below(&d, 64) == 0 ? 0xFF : 0x7F));
        while (want < n && p[want] < 0x80) want++;
        for (uint32_t level = 0; level < count; level++)
            CHECK_EQ(ops[level]->ascii_prefix(p, n), want);
        free(p);
    }
}

int main(void) {
    RUN(test_table_of_a_level_is_never_above_the_processor);
    RUN(test_masking_every_length_alignment_and_phase);
    RUN(test_masking_in_pieces_is_masking_at_once);
    RUN(test_masking_twice_is_not_masking);
    RUN(test_huge_phase_counts_modulo_4);
    RUN(test_ascii_prefix_finds_the_first_high_bit_at_every_place);
    RUN(test_ascii_prefix_of_random_bytes_is_that_of_a_loop);
    return 0;
}

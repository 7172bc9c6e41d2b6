/* test_buffer.c — the receive buffer: cursors, guards, refusals. */
#include "fixture.h"

static cw_buffer made(uint32_t capacity, void **memory) {
    cw_buffer b;
    *memory = malloc(cw_buffer_size(capacity));
    cw_buffer_init(&b, *memory, capacity);
    return b;
}

static void test_size_is_capacity_and_both_guards(void) {
    CHECK_EQ(cw_buffer_size(0), 256);
    CHECK_EQ(cw_buffer_size(1000), 64 + 1000 + 192);
    CHECK_EQ(cw_buffer_size(UINT32_MAX), 4294967295ull + 256);
}

static void test_init_clears_and_places_data_behind_the_front_guard(void) {
    void *memory;
    cw_buffer b = made(100, &memory);
    CHECK(b.data == (uint8_t *)memory + CW_GUARD_BEFORE);
    CHECK_EQ(b.consumed, 0);
    CHECK_EQ(b.parsed, 0);
    CHECK_EQ(b.received, 0);
    CHECK_EQ(b.capacity, 100);
    free(memory);
}

static void test_tail_moves_with_commit_and_is_empty_when_full(void) {
    void *memory;
    uint32_t free_size;
    cw_buffer b = made(10, &memory);
    CHECK(cw_buffer_tail(&b, &free_size) == b.data);
    CHECK_EQ(free_size, 10);
    CHECK_EQ(cw_buffer_commit(&b, 0), CW_OK);
    CHECK_EQ(cw_buffer_commit(&b, 7), CW_OK);
    CHECK(cw_buffer_tail(&b, &free_size) == b.data + 7);
    CHECK_EQ(free_size, 3);
    CHECK_EQ(cw_buffer_commit(&b, 3), CW_OK);
    (void)cw_buffer_tail(&b, &free_size);
    CHECK_EQ(free_size, 0);
    free(memory);
}

static void test_commit_of_more_than_fits_takes_nothing(void) {
    static const uint32_t TOO_MUCH[] = {6, 7, 1000, 0x7FFFFFFF, 0xFFFFFFFF};
    void *memory;
    cw_buffer b = made(10, &memory);
    CHECK_EQ(cw_buffer_commit(&b, 5), CW_OK);
    for (size_t i = 0; i < sizeof TOO_MUCH / sizeof *TOO_MUCH; i++) {
        CHECK_EQ(cw_buffer_commit(&b, TOO_MUCH[i]), CW_FULL);
        CHECK_EQ(b.received, 5);
    }
    CHECK_EQ(cw_buffer_commit(&b, 5), CW_OK);
    CHECK_EQ(cw_buffer_commit(&b, 1), CW_FULL);
    free(memory);
}

static void test_compact_keeps_the_rest_and_moves_the_cursors(void) {
    void *memory;
    cw_buffer b = made(8, &memory);
    memcpy(b.data, "abcdefgh", 8);
    CHECK_EQ(cw_buffer_commit(&b, 8), CW_OK);
    b.parsed = 5;
    b.consumed = 3;
    cw_buffer_compact(&b);
    CHECK_EQ(b.consumed, 0);
    CHECK_EQ(b.parsed, 2);
    CHECK_EQ(b.received, 5);
    CHECK_BYTES(b.data, "defgh", 5);
    cw_buffer_compact(&b);
    CHECK_EQ(b.received, 5);
    CHECK_BYTES(b.data, "defgh", 5);
    free(memory);
}

static void test_compact_of_all_consumed_makes_the_whole_capacity_free(void) {
    void *memory;
    uint32_t free_size;
    cw_buffer b = made(8, &memory);
    memcpy(b.data, "abcdefgh", 8);
    CHECK_EQ(cw_buffer_commit(&b, 8), CW_OK);
    b.consumed = b.parsed = 8;
    cw_buffer_compact(&b);
    CHECK(cw_buffer_tail(&b, &free_size) == b.data);
    CHECK_EQ(free_size, 8);
    free(memory);
}

static void test_clear_forgets_everything_received(void) {
    void *memory;
    uint32_t free_size;
    cw_buffer b = made(8, &memory);
    CHECK_EQ(cw_buffer_commit(&b, 8), CW_OK);
    b.parsed = 4;
    cw_buffer_clear(&b);
    CHECK(cw_buffer_tail(&b, &free_size) == b.data);
    CHECK_EQ(free_size, 8);
    CHECK_EQ(b.consumed + b.parsed + b.received, 0);
    free(memory);
}

static void test_any_walk_of_the_cursors_keeps_a_stream_in_order(void) {
    dice d = {1};
    void *memory;
    cw_buffer b = made(37, &memory);
    uint8_t next_in = 0, next_out = 0;
    for (int turn = 0; turn < 20000; turn++) {
        uint32_t free_size, n;
        uint8_t *to = cw_buffer_tail(&b, &free_size);
        n = below(&d, free_size + 1);
        for (uint32_t i = 0; i < n; i++) to[i] = next_in++;
        CHECK_EQ(cw_buffer_commit(&b, n), CW_OK);
        n = below(&d, b.received - b.parsed + 1);
        for (uint32_t i = 0; i < n; i++) CHECK_EQ(b.data[b.parsed + i], next_out++);
        b.parsed += n;
        b.consumed = b.parsed;
        if (below(&d, 3) == 0) cw_buffer_compact(&b);
        CHECK(b.consumed <= b.parsed && b.parsed <= b.received && b.received <= b.capacity);
    }
    free(memory);
}

int main(void) {
    RUN(test_size_is_capacity_and_both_guards);
    RUN(test_init_clears_and_places_data_behind_the_front_guard);
    RUN(test_tail_moves_with_commit_and_is_empty_when_full);
    RUN(test_commit_of_more_than_fits_takes_nothing);
    RUN(test_compact_keeps_the_rest_and_moves_the_cursors);
    RUN(test_compact_of_all_consumed_makes_the_whole_capacity_free);
    RUN(test_clear_forgets_everything_received);
    RUN(test_any_walk_of_the_cursors_keeps_a_stream_in_order);
    return 0;
}

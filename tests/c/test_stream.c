/* test_stream.c — which trades are new, when several lines carry them. */
#include "fixture.h"

static cw_stream stream;

static void begin(void) { memset(&stream, 0, sizeof stream); }

/* One member's trades from `first` to `last`; returns how many were new. */
static uint32_t take(uint32_t member, uint32_t join, uint64_t first, uint64_t last) {
    uint32_t count = 0;
    for (uint64_t id = first; id <= last; id++)
        count += (uint32_t)cw_stream_take_trade(&stream, member, join, id);
    return count;
}

static void test_a_trade_is_new_once(void) {
    begin();
    CHECK_EQ(take(0, 1, 0, 9), 10);
    CHECK_EQ(take(1, 1, 0, 9), 0);
    CHECK_EQ(take(1, 1, 10, 12), 3);
    CHECK_EQ(take(0, 1, 10, 14), 2);
}

static void test_what_a_line_ahead_has_not_seen_is_filled_by_those_behind(void) {
    begin();
    CHECK_EQ(take(0, 1, 5, 10), 6);
    CHECK_EQ(take(1, 1, 20, 25), 6);
    CHECK_EQ(take(0, 1, 11, 30), 9 + 5);
    CHECK_EQ(take(1, 1, 26, 30), 0);
}

static void test_a_line_that_joins_inside_a_hole_splits_it(void) {
    begin();
    CHECK_EQ(take(0, 1, 1, 10), 10);
    CHECK_EQ(take(1, 1, 20, 20), 1);
    CHECK_EQ(take(2, 1, 15, 16), 2);
    CHECK_EQ(take(0, 1, 11, 20), 4 + 3);
    CHECK_EQ(take(2, 1, 17, 20), 0);
}

/* Behind a new beginning ids may be missing on the line; others have them. */
static void test_a_line_that_begins_anew_leaves_a_hole(void) {
    begin();
    CHECK_EQ(take(0, 1, 1, 10), 10);
    CHECK_EQ(take(0, 2, 13, 14), 2);
    CHECK_EQ(take(0, 3, 17, 17), 1);
    CHECK_EQ(take(1, 1, 9, 20), 2 + 2 + 3);
}

static void test_without_a_new_beginning_ids_between_do_not_exist(void) {
    begin();
    CHECK_EQ(take(0, 1, 1, 10), 10);
    CHECK_EQ(take(0, 1, 20, 20), 1);
    CHECK_EQ(take(1, 1, 15, 15), 0);
}

static void test_the_oldest_hole_is_given_up_for_one_too_many(void) {
    begin();
    for (uint64_t n = 0; n < CW_HOLES + 1; n++)
        CHECK_EQ(take(0, 1 + (uint32_t)n, 10 + 10 * n, 10 + 10 * n), 1);
    CHECK_EQ(take(1, 1, 0, 9), 0); /* the first: below 10 */
    CHECK_EQ(take(1, 1, 11, 20 + 10 * CW_HOLES), 9 * CW_HOLES + 10);
}

/* The lower part of a split is the oldest of all: it does not drive out what stands above. */
static void test_a_split_without_room_gives_up_its_lower_part(void) {
    begin();
    for (uint64_t n = 0; n < CW_HOLES; n++)
        CHECK_EQ(take(0, 1 + (uint32_t)n, 10 + 10 * n, 10 + 10 * n), 1);
    CHECK_EQ(take(1, 1, 5, 6), 2);
    CHECK_EQ(take(2, 1, 3, 3), 0);
    CHECK_EQ(take(1, 1, 7, 9 + 10 * CW_HOLES), 3 + 9 * (CW_HOLES - 1) + 9);
}

static void test_the_largest_ids(void) {
    begin();
    CHECK_EQ(take(0, 1, UINT64_MAX - 5, UINT64_MAX - 1), 5);
    CHECK_EQ(take(1, 1, UINT64_MAX - 5, UINT64_MAX - 1), 0);
    CHECK_EQ(cw_stream_take_trade(&stream, 1, 1, UINT64_MAX), 0);
}

/* Against a set of what was handed over: never twice, whatever lines do; and nothing is lost while
 * there is room for its hole. */
static void test_random_lines_against_a_set(void) {
    enum { IDS = 400 };
    dice d = {7};
    for (int run = 0; run < 2000; run++) {
        uint8_t was_new[IDS] = {0}, came[IDS] = {0};
        uint32_t at[CW_GROUP_LINES], join[CW_GROUP_LINES], lines = 2 + below(&d, 3), holes = 0;
        begin();
        for (uint32_t i = 0; i < lines; i++) at[i] = below(&d, 20), join[i] = 1;
        for (int step = 0; step < 600; step++) {
            uint32_t i = below(&d, lines);
            if (holes < 2 && below(&d, 100) == 0) {
                at[i] += below(&d, 30);
                join[i]++;
                holes++;
            }
            if (at[i] >= IDS) continue;
            check_note("run %d step %d line %u id %u", run, step, i, at[i]);
            came[at[i]] = 1;
            if (cw_stream_take_trade(&stream, i, join[i], at[i])) {
                CHECK_EQ(was_new[at[i]], 0);
                was_new[at[i]] = 1;
            }
            at[i]++;
        }
        if (lines == 2)
            for (uint32_t id = 0; id < IDS; id++) CHECK_EQ(was_new[id], came[id]);
    }
}

int main(void) {
    RUN(test_a_trade_is_new_once);
    RUN(test_what_a_line_ahead_has_not_seen_is_filled_by_those_behind);
    RUN(test_a_line_that_joins_inside_a_hole_splits_it);
    RUN(test_a_line_that_begins_anew_leaves_a_hole);
    RUN(test_without_a_new_beginning_ids_between_do_not_exist);
    RUN(test_the_oldest_hole_is_given_up_for_one_too_many);
    RUN(test_a_split_without_room_gives_up_its_lower_part);
    RUN(test_the_largest_ids);
    RUN(test_random_lines_against_a_set);
    return 0;
}

/* test_loss.c — the ring of losses that ended. */
#include "check.h"
#include "crosswire/loss.h"

static cw_loss rows[CW_LOSSES];
static cw_losses losses;

static void begin(void) { losses = (cw_losses){.rows = rows}; }

static void put(uint64_t n) {
    cw_loss loss = {.first_seq = n};
    cw_losses_put(&losses, &loss);
}

static void test_they_are_taken_in_their_order(void) {
    cw_loss loss;
    begin();
    CHECK_EQ(cw_losses_take(&losses, &loss), 0);
    for (uint64_t n = 0; n < 3 * CW_LOSSES; n++) {
        put(n);
        put(n + 1);
        CHECK_EQ(cw_losses_take(&losses, &loss), 1);
        CHECK_EQ(loss.first_seq, n);
        CHECK_EQ(cw_losses_take(&losses, &loss), 1);
        CHECK_EQ(loss.first_seq, n + 1);
        CHECK_EQ(cw_losses_take(&losses, &loss), 0);
    }
    CHECK_EQ(losses.dropped, 0);
}

static void test_the_oldest_gives_way_and_is_counted(void) {
    cw_loss loss;
    begin();
    for (uint64_t n = 0; n < CW_LOSSES; n++) put(n);
    CHECK_EQ(losses.dropped, 0);
    put(CW_LOSSES);
    put(CW_LOSSES + 1);
    CHECK_EQ(losses.dropped, 2);
    for (uint64_t n = 2; n < CW_LOSSES + 2; n++) {
        CHECK_EQ(cw_losses_take(&losses, &loss), 1);
        CHECK_EQ(loss.first_seq, n);
    }
    CHECK_EQ(cw_losses_take(&losses, &loss), 0);
}

int main(void) {
    RUN(test_they_are_taken_in_their_order);
    RUN(test_the_oldest_gives_way_and_is_counted);
    return 0;
}

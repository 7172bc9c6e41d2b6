/* test_ring.c — the ring of signals: nothing overwritten, nothing lost. */
#include "crosswire/ring.h"

#include "fixture.h"

static cw_signal *made(cw_ring *ring, uint32_t capacity) {
    cw_signal *slots = aligned_alloc(CW_CACHE_LINE, capacity * sizeof *slots);
    memset(slots, 0xAB, capacity * sizeof *slots);
    cw_ring_init(ring, slots, capacity);
    return slots;
}

static int is_zero(const cw_signal *s) {
    for (size_t i = 0; i < sizeof *s; i++)
        if (((const uint8_t *)s)[i]) return 0;
    return 1;
}

static void write_one(cw_ring *ring, uint64_t seq) {
    cw_signal *s = cw_ring_claim(ring);
    CHECK(s != NULL);
    CHECK(is_zero(s));
    s->seq = seq;
    s->rule_id = 0xFFFFFFFF;
    cw_ring_commit(ring);
}

static void test_new_ring_is_empty(void) {
    cw_ring ring;
    uint32_t count = 99;
    cw_signal *slots = made(&ring, 8);
    CHECK_EQ(cw_ring_free(&ring), 8);
    (void)cw_ring_peek(&ring, &count);
    CHECK_EQ(count, 0);
    CHECK_EQ(ring.refused, 0);
    free(slots);
}

static void test_claimed_slot_is_zeroed_and_unseen_until_commit(void) {
    cw_ring ring;
    uint32_t count;
    cw_signal *slots = made(&ring, 2), *s = cw_ring_claim(&ring);
    CHECK(is_zero(s));
    s->seq = 5;
    (void)cw_ring_peek(&ring, &count);
    CHECK_EQ(count, 0);
    CHECK_EQ(cw_ring_free(&ring), 2);
    CHECK(cw_ring_claim(&ring) == s);
    CHECK(is_zero(s));
    s->seq = 6;
    cw_ring_commit(&ring);
    CHECK_EQ(cw_ring_peek(&ring, &count)->seq, 6);
    CHECK_EQ(count, 1);
    CHECK_EQ(cw_ring_free(&ring), 1);
    free(slots);
}

static void test_claim_in_a_full_ring_is_refused_and_counted(void) {
    cw_ring ring;
    uint32_t count;
    cw_signal *slots = made(&ring, 4);
    for (uint64_t i = 0; i < 4; i++) write_one(&ring, i);
    CHECK_EQ(cw_ring_free(&ring), 0);
    CHECK(cw_ring_claim(&ring) == NULL);
    CHECK(cw_ring_claim(&ring) == NULL);
    CHECK_EQ(ring.refused, 2);
    for (uint64_t i = 0; i < 4; i++) CHECK_EQ(cw_ring_peek(&ring, &count)[i].seq, i);
    cw_ring_release(&ring, 1);
    write_one(&ring, 4);
    CHECK(cw_ring_claim(&ring) == NULL);
    CHECK_EQ(ring.refused, 3);
    free(slots);
}

static void test_peek_stops_at_the_wrap_and_goes_on_behind_it(void) {
    cw_ring ring;
    uint32_t count;
    cw_signal *slots = made(&ring, 4);
    for (uint64_t i = 0; i < 3; i++) write_one(&ring, i);
    cw_ring_release(&ring, 3);
    for (uint64_t i = 3; i < 6; i++) write_one(&ring, i);
    CHECK_EQ(cw_ring_peek(&ring, &count)->seq, 3);
    CHECK_EQ(count, 1);
    cw_ring_release(&ring, count);
    CHECK_EQ(cw_ring_peek(&ring, &count)->seq, 4);
    CHECK_EQ(count, 2);
    cw_ring_release(&ring, count);
    (void)cw_ring_peek(&ring, &count);
    CHECK_EQ(count, 0);
    free(slots);
}

static void test_release_of_more_than_is_there_releases_what_is_there(void) {
    cw_ring ring;
    cw_signal *slots = made(&ring, 4);
    write_one(&ring, 0);
    write_one(&ring, 1);
    cw_ring_release(&ring, 1000);
    CHECK_EQ(cw_ring_free(&ring), 4);
    CHECK_EQ(ring.tail, 2);
    cw_ring_release(&ring, 0);
    CHECK_EQ(ring.tail, 2);
    free(slots);
}

static void test_ring_of_one_slot_works(void) {
    cw_ring ring;
    uint32_t count;
    cw_signal *slots = made(&ring, 1);
    for (uint64_t i = 0; i < 5; i++) {
        write_one(&ring, i);
        CHECK(cw_ring_claim(&ring) == NULL);
        CHECK_EQ(cw_ring_peek(&ring, &count)->seq, i);
        CHECK_EQ(count, 1);
        cw_ring_release(&ring, 1);
    }
    free(slots);
}

static void test_any_mixture_of_writing_and_reading_keeps_the_order(void) {
    cw_ring ring;
    dice d = {11};
    uint64_t in = 0, out = 0;
    cw_signal *slots = made(&ring, 16);
    for (int turn = 0; turn < 50000; turn++) {
        uint32_t count, n = below(&d, 20);
        const cw_signal *s;
        while (n-- && cw_ring_free(&ring)) write_one(&ring, in++);
        CHECK_EQ(cw_ring_free(&ring), 16 - (in - out));
        s = cw_ring_peek(&ring, &count);
        n = below(&d, count + 1);
        for (uint32_t i = 0; i < n; i++) CHECK_EQ(s[i].seq, out++);
        cw_ring_release(&ring, n);
    }
    CHECK_EQ(ring.head, in);
    CHECK_EQ(ring.tail, out);
    CHECK_EQ(ring.refused, 0);
    free(slots);
}

int main(void) {
    RUN(test_new_ring_is_empty);
    RUN(test_claimed_slot_is_zeroed_and_unseen_until_commit);
    RUN(test_claim_in_a_full_ring_is_refused_and_counted);
    RUN(test_peek_stops_at_the_wrap_and_goes_on_behind_it);
    RUN(test_release_of_more_than_is_there_releases_what_is_there);
    RUN(test_ring_of_one_slot_works);
    RUN(test_any_mixture_of_writing_and_reading_keeps_the_order);
    return 0;
}

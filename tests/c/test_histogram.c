/* test_histogram.c — durations in log-linear buckets. */
#include "crosswire/histogram.h"

#include "fixture.h"

static cw_histogram h, other;

static uint64_t only(uint64_t value, double p) {
    cw_histogram_clear(&h);
    cw_histogram_record(&h, value);
    return cw_histogram_quantile(&h, p);
}

static void test_empty_histogram_has_no_quantile(void) {
    cw_histogram_clear(&h);
    CHECK_EQ(cw_histogram_quantile(&h, 0.5), 0);
    CHECK_EQ(cw_histogram_quantile(&h, 1.0), 0);
}

static void test_a_single_value_is_every_quantile(void) {
    static const uint64_t VALUES[] = {0, 1, 31, 32, 33, 63, 64, 65, 1000, 1ull << 32,
                                      (1ull << 32) - 1, 1ull << 63, UINT64_MAX, UINT64_MAX - 1};
    for (size_t i = 0; i < sizeof VALUES / sizeof *VALUES; i++) {
        CHECK(only(VALUES[i], 0.001) == VALUES[i]);
        CHECK(only(VALUES[i], 0.5) == VALUES[i]);
        CHECK(only(VALUES[i], 1.0) == VALUES[i]);
        CHECK(h.max == VALUES[i]);
        CHECK_EQ(h.count, 1);
    }
}

static void test_small_values_are_exact(void) {
    cw_histogram_clear(&h);
    for (uint64_t value = 0; value < 32; value++) cw_histogram_record(&h, value);
    for (uint32_t k = 1; k <= 32; k++) CHECK_EQ(cw_histogram_quantile(&h, k / 32.0), k - 1);
}

/* A quantile is never below the value of its rank, and above it by a 32nd part at most. */
static void test_quantile_is_the_upper_end_of_a_bucket_not_wider_than_a_32nd(void) {
    dice d = {9};
    for (int turn = 0; turn < 200000; turn++) {
        uint64_t value = roll(&d) >> below(&d, 64), q;
        cw_histogram_clear(&other);
        cw_histogram_record(&other, value);
        cw_histogram_record(&other, UINT64_MAX);
        q = cw_histogram_quantile(&other, 0.5);
        check_note("value %llu", (unsigned long long)value);
        CHECK(q >= value);
        CHECK(q - value <= value / 32);
        if (turn > 2000) turn += 60;
    }
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_quantiles_of_many_values_against_sorting(void) {
    enum { COUNT = 10000 };
    static uint64_t values[COUNT];
    dice d = {10};
    cw_histogram_clear(&h);
    for (int i = 0; i < COUNT; i++) {
        values[i] = 200 + (roll(&d) >> (40 + below(&d, 20)));
        cw_histogram_record(&h, values[i]);
    }
    qsort(values, COUNT, sizeof *values, compare);
    for (int k = 1; k <= COUNT; k++) {
        uint64_t want = values[k - 1], q = cw_histogram_quantile(&h, k / (double)COUNT);
        if (k % 97 && k < COUNT - 20) continue;
        check_note("rank %d", k);
        CHECK(q >= want);
        CHECK(q - want <= want / 32);
        CHECK(q <= h.max);
    }
    CHECK(cw_histogram_quantile(&h, 1.0) == values[COUNT - 1]);
}

int main(void) {
    RUN(test_empty_histogram_has_no_quantile);
    RUN(test_a_single_value_is_every_quantile);
    RUN(test_small_values_are_exact);
    RUN(test_quantile_is_the_upper_end_of_a_bucket_not_wider_than_a_32nd);
    RUN(test_quantiles_of_many_values_against_sorting);
    return 0;
}

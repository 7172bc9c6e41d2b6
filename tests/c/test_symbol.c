/* test_symbol.c — a venue's symbols to instrument ids. */
#include "fixture.h"

static cw_symbol slots[64];

static uint32_t instrument_at(const cw_symbols *table, const uint8_t *text, uint32_t len) {
    const cw_symbol *slot = cw_symbols_find(table, text, len);
    return slot ? slot->instrument : CW_NO_INSTRUMENT;
}

static uint32_t find(const cw_symbols *table, const char *text) {
    block b = block_of(text, strlen(text));
    uint32_t instrument = instrument_at(table, b.text, (uint32_t)b.n);
    block_free(&b);
    return instrument;
}

static int add(cw_symbols *table, const char *text, uint32_t instrument) {
    size_t n = strlen(text);
    uint8_t *p = malloc(n ? n : 1); /* no guards: adding reads the text and nothing else */
    int code;
    if (n) memcpy(p, text, n);
    code = cw_symbols_add(table, p, (uint32_t)n, instrument);
    free(p);
    return code;
}

static void test_symbols_of_every_length_are_found_and_others_are_not(void) {
    static const char TEXT[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    cw_symbols table;
    char text[40];
    cw_symbols_init(&table, slots, 64);
    for (uint32_t n = 1; n <= CW_SYMBOL_MAX; n++) {
        snprintf(text, sizeof text, "%.*s", (int)n, TEXT);
        CHECK_EQ(find(&table, text), CW_NO_INSTRUMENT);
        CHECK_EQ(add(&table, text, 100 + n), CW_OK);
        CHECK_EQ(find(&table, text), 100 + n);
    }
    CHECK_EQ(table.count, 32);
    for (uint32_t n = 1; n <= CW_SYMBOL_MAX; n++) {
        snprintf(text, sizeof text, "%.*s", (int)n, TEXT);
        CHECK_EQ(find(&table, text), 100 + n);
        text[n - 1] = '!';
        CHECK_EQ(find(&table, text), CW_NO_INSTRUMENT);
        text[n - 1] = TEXT[n - 1];
        text[0] = '!';
        CHECK_EQ(find(&table, text), CW_NO_INSTRUMENT);
    }
}

static void test_empty_and_too_long_symbols_are_impossible(void) {
    cw_symbols table;
    cw_symbols_init(&table, slots, 64);
    CHECK_EQ(add(&table, "", 1), CW_E_SYMBOL_UNKNOWN);
    CHECK_EQ(add(&table, "123456789012345678901234567890123", 1), CW_E_SYMBOL_UNKNOWN);
    CHECK_EQ(table.count, 0);
    CHECK_EQ(find(&table, ""), CW_NO_INSTRUMENT);
    CHECK_EQ(find(&table, "123456789012345678901234567890123"), CW_NO_INSTRUMENT);
}

static void test_adding_again_changes_nothing(void) {
    cw_symbols table;
    cw_symbols_init(&table, slots, 4);
    CHECK_EQ(add(&table, "BTCUSDT", 1), CW_OK);
    CHECK_EQ(add(&table, "ETHUSDT", 2), CW_OK);
    CHECK_EQ(add(&table, "SOLUSDT", 3), CW_FULL);
    CHECK_EQ(add(&table, "BTCUSDT", 7), CW_TAKEN);
    CHECK_EQ(table.count, 2);
    CHECK_EQ(find(&table, "BTCUSDT"), 1);
    CHECK_EQ(find(&table, "ETHUSDT"), 2);
    CHECK_EQ(find(&table, "SOLUSDT"), CW_NO_INSTRUMENT);
}

static void test_table_is_full_when_half_of_its_slots_are_taken(void) {
    cw_symbols table;
    char text[16];
    cw_symbols_init(&table, slots, 64);
    for (uint32_t i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "S%u", i);
        CHECK_EQ(add(&table, text, i), i < 32 ? CW_OK : CW_FULL);
    }
    CHECK_EQ(table.count, 32);
    for (uint32_t i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "S%u", i);
        CHECK_EQ(find(&table, text), i < 32 ? i : CW_NO_INSTRUMENT);
    }
}

static void test_a_symbol_is_not_its_prefix_nor_its_padding(void) {
    cw_symbols table;
    uint8_t padded[64] = "BTC";
    cw_symbols_init(&table, slots, 64);
    CHECK_EQ(add(&table, "BTC", 3), CW_OK);
    CHECK_EQ(instrument_at(&table, padded, 3), 3);
    CHECK_EQ(instrument_at(&table, padded, 4), CW_NO_INSTRUMENT);
    CHECK_EQ(instrument_at(&table, padded, 2), CW_NO_INSTRUMENT);
}

static void test_what_cannot_stand_in_json_as_it_is_cannot_be_a_symbol(void) {
    static const char *const TEXTS[] = {"B\"C", "B\\C", "B\nC"};
    cw_symbols table;
    cw_symbols_init(&table, slots, 64);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(cw_symbols_add(&table, (const uint8_t *)TEXTS[i], 3, 4), CW_E_SYMBOL_UNKNOWN);
    CHECK_EQ(cw_symbols_add(&table, (const uint8_t *)"BTC", 4, 4), CW_E_SYMBOL_UNKNOWN);
    CHECK_EQ(table.count, 0);
}

static void test_bytes_behind_a_short_symbol_do_not_matter(void) {
    cw_symbols table;
    cw_symbols_init(&table, slots, 64);
    CHECK_EQ(add(&table, "BTCUSDT", 5), CW_OK);
    for (int fill = 0; fill < 256; fill++) {
        uint8_t text[16];
        memset(text, fill, sizeof text);
        memcpy(text, "BTCUSDT", 7);
        CHECK_EQ(instrument_at(&table, text, 7), 5);
    }
}

static void test_random_symbols_against_a_plain_list(void) {
    dice d = {3};
    for (int turn = 0; turn < 300; turn++) {
        char texts[32][40];
        cw_symbols table;
        cw_symbols_init(&table, slots, 64);
        for (uint32_t i = 0; i < 32; i++) {
            uint32_t n = 1 + below(&d, turn % 2 ? 3 : 32), first = i;
            for (uint32_t k = 0; k < n; k++) texts[i][k] = (char)('A' + below(&d, 3));
            texts[i][n] = 0;
            for (uint32_t k = i; k-- > 0;)
                if (strcmp(texts[k], texts[i]) == 0) first = k;
            CHECK_EQ(add(&table, texts[i], i), first == i ? CW_OK : CW_TAKEN);
            CHECK_EQ(find(&table, texts[i]), first);
        }
    }
}

int main(void) {
    RUN(test_symbols_of_every_length_are_found_and_others_are_not);
    RUN(test_empty_and_too_long_symbols_are_impossible);
    RUN(test_adding_again_changes_nothing);
    RUN(test_table_is_full_when_half_of_its_slots_are_taken);
    RUN(test_a_symbol_is_not_its_prefix_nor_its_padding);
    RUN(test_what_cannot_stand_in_json_as_it_is_cannot_be_a_symbol);
    RUN(test_bytes_behind_a_short_symbol_do_not_matter);
    RUN(test_random_symbols_against_a_plain_list);
    return 0;
}

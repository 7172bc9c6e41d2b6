/* test_layout.c — which tables a scanner may be given. */
#include "fixture.h"

static cw_layout changed; /* every test begins with a copy of a layout that is in order */

static void begin(const cw_layout *layout) {
    changed = *layout;
    CHECK_EQ(cw_layout_is_valid(&changed), 1);
}

static void test_layouts_of_two_venues_are_valid(void) {
    CHECK_EQ(cw_layout_is_valid(&SPOT), 1);
    CHECK_EQ(cw_layout_is_valid(&OKX), 1);
}

static void test_layout_without_a_root_or_with_too_many_nodes_is_refused(void) {
    begin(&SPOT);
    changed.node_count = 0;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    changed.node_count = CW_LAYOUT_NODES_MAX + 1;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    changed.node_count = 0xFFFF;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
}

static void test_layout_with_too_many_messages_is_refused(void) {
    begin(&SPOT);
    changed.message_count = CW_LAYOUT_MESSAGES_MAX + 1;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
}

static void test_children_outside_the_table_are_refused(void) {
    begin(&SPOT);
    changed.nodes[0].child_count = 15;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    begin(&SPOT);
    changed.nodes[0].child_first = 16;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    begin(&SPOT);
    changed.nodes[14].child_first = 0xFFFF;
    changed.nodes[14].child_count = 0xFFFF;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    begin(&OKX);
    changed.node_count = 21;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
}

static void test_key_and_tag_and_word_longer_than_their_arrays_are_refused(void) {
    begin(&SPOT);
    changed.nodes[1].key_len = CW_KEY_MAX;
    CHECK_EQ(cw_layout_is_valid(&changed), 1);
    changed.nodes[1].key_len = CW_KEY_MAX + 1;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    begin(&SPOT);
    changed.messages[1].tag_len = CW_TAG_MAX + 1;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    begin(&OKX);
    changed.word_len = 16;
    CHECK_EQ(cw_layout_is_valid(&changed), 1);
    changed.word_len = 17;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
}

static void test_unknown_slot_is_refused(void) {
    begin(&SPOT);
    changed.nodes[1].slot = CW_SLOTS;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    changed.nodes[1].slot = 0xFE;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    changed.nodes[1].slot = CW_SLOT_NONE;
    CHECK_EQ(cw_layout_is_valid(&changed), 1);
    begin(&SPOT);
    changed.messages[0].used |= 1u << CW_SLOTS;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    begin(&SPOT);
    changed.messages[0].required |= 1u << 31;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
}

static void test_unknown_record_and_kind_that_cannot_be_counted_are_refused(void) {
    begin(&SPOT);
    changed.messages[0].record = CW_TRADE + 1;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    begin(&SPOT);
    changed.messages[0].kind = CW_KINDS - 1;
    CHECK_EQ(cw_layout_is_valid(&changed), 1);
    changed.messages[0].kind = CW_KINDS;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
}

static void test_slot_that_the_record_has_no_place_for_is_refused(void) {
    for (uint32_t slot = 0; slot < CW_SLOTS; slot++) {
        uint32_t in_quote = (SPOT_QUOTE_SLOTS | OKX_QUOTE_SLOTS) | BIT_OF(CW_SLOT_TAG);
        uint32_t in_trade = SPOT_TRADE_SLOTS | OKX_TRADE_SLOTS | BIT_OF(CW_SLOT_SEQ) |
                            BIT_OF(CW_SLOT_COUNT) | BIT_OF(CW_SLOT_TRADE_KIND);
        begin(&OKX);
        for (uint32_t i = 0; i < 2; i++) {
            changed.messages[i].text[CW_SLOT_BUYER_IS_MAKER] = CW_TEXT_BOOL;
            changed.messages[i].text[CW_SLOT_TRADE_KIND] = CW_TEXT_STRING;
            changed.messages[i].used |= BIT_OF(slot);
            check_note("slot %u of message %u", slot, i);
            CHECK_EQ(cw_layout_is_valid(&changed), (i ? in_trade : in_quote) >> slot & 1);
            changed.messages[i] = OKX.messages[i];
        }
        changed.messages[2].used |= BIT_OF(slot); /* only counted */
        changed.messages[2].text[CW_SLOT_BUYER_IS_MAKER] = CW_TEXT_BOOL;
        changed.messages[2].text[CW_SLOT_SIDE] = CW_TEXT_STRING;
        changed.messages[2].text[CW_SLOT_TRADE_KIND] = CW_TEXT_STRING;
        CHECK_EQ(cw_layout_is_valid(&changed), 1);
    }
}

static void test_slot_of_a_kind_of_text_that_is_not_read_is_refused(void) {
    static const uint8_t SLOTS[] = {CW_SLOT_SYMBOL, CW_SLOT_BUYER_IS_MAKER, CW_SLOT_TRADE_KIND};
    for (uint32_t i = 0; i < sizeof SLOTS; i++)
        for (uint8_t text = CW_TEXT_ANY; text <= CW_TEXT_NULL; text++) {
            begin(&SPOT);
            changed.messages[1].text[SLOTS[i]] = text;
            CHECK_EQ(cw_layout_is_valid(&changed), text == SPOT.messages[1].text[SLOTS[i]]);
        }
    for (uint8_t text = CW_TEXT_ANY; text <= CW_TEXT_NULL; text++) {
        begin(&OKX);
        changed.messages[1].text[CW_SLOT_SIDE] = text;
        CHECK_EQ(cw_layout_is_valid(&changed), text == CW_TEXT_STRING);
        begin(&OKX);
        changed.messages[2].text[CW_SLOT_SYMBOL] = text;
        CHECK_EQ(cw_layout_is_valid(&changed), text == CW_TEXT_STRING);
    }
}

static void test_array_of_records_outside_the_table_is_refused(void) {
    begin(&OKX);
    changed.each_node = 22;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    changed.each_node = 0xFFFE;
    CHECK_EQ(cw_layout_is_valid(&changed), 0);
    changed.each_node = 0xFFFF;
    CHECK_EQ(cw_layout_is_valid(&changed), 1);
}

/* Any table that is called valid may be scanned with: no byte outside the tables is touched. */
static void test_any_layout_that_is_called_valid_can_be_scanned_with(void) {
    static const char *const TEXTS[] = {
        "{\"u\":5,\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"2\",\"a\":\"3\",\"A\":\"4\"}",
        "{\"e\":\"trade\",\"s\":\"BTCUSDT\",\"t\":1,\"p\":\"2\",\"q\":\"3\",\"T\":4,\"m\":true}",
        "{\"e\":\"depthUpdate\",\"s\":\"BTCUSDT\",\"b\":[[\"1\",\"2\"]]}",
        "{\"e\":\"depthUpdate\",\"s\":5}",
        "{\"arg\":{\"channel\":\"trades\",\"instId\":\"BTCUSDT\"},\"data\":[{\"tradeId\":\"1\","
        "\"px\":\"2\",\"sz\":\"3\",\"side\":\"buy\",\"ts\":\"4\"},{\"tradeId\":\"2\","
        "\"px\":\"2\",\"sz\":\"3\",\"side\":\"sell\",\"ts\":\"4\"}]}",
        "{\"arg\":{\"channel\":\"books\"},\"data\":[]}"};
    static cw_scanner scanner;
    dice d = {5};
    uint32_t valid = 0;
    for (int turn = 0; turn < 25000; turn++) {
        const cw_layout *from = below(&d, 2) ? &SPOT : &OKX;
        uint8_t *image = (uint8_t *)&changed;
        directory known;
        changed = *from;
        for (uint32_t k = 1 + below(&d, 3); k; k--) {
            uint32_t at = below(&d, 2) ? below(&d, 23 * sizeof(cw_layout_node))
                                       : (uint32_t)offsetof(cw_layout, messages) +
                                             below(&d, 3 * sizeof(cw_layout_message));
            image[at] ^= (uint8_t)(1u << below(&d, 8));
        }
        if (!cw_layout_is_valid(&changed)) continue;
        valid++;
        directory_init(&known, SPOT_SYMBOLS);
        memset(&scanner, 0, sizeof scanner);
        scanner.layout = &changed;
        scanner.symbols = &known.symbols;
        scanner.predicts = 1;
        cw_scanner_reset(&scanner);
        for (size_t i = 0; i < 2 * sizeof TEXTS / sizeof *TEXTS; i++) {
            const char *text = TEXTS[i / 2];
            const cw_ops *ops = cw_ops_for((cw_level)below(&d, LEVELS));
            block b = block_of(text, strlen(text));
            cw_record row;
            int scanned = ops->scan(&scanner, b.text, (uint32_t)b.n, &row);
            check_note("turn %d, message %s", turn, text);
            CHECK((scanned >= CW_SCAN_QUOTE && scanned <= CW_SCAN_CONTROL) ||
                  (scanned >= CW_E_FIRST && scanned < CW_E_LAST));
            for (int k = 0; k < 5 && scanned < CW_SCAN_CONTROL; k++) {
                CHECK(scanner.instrument < known.symbols.count);
                scanned = ops->scan_next(&scanner, &row);
            }
            block_free(&b);
        }
    }
    CHECK(valid > 500);
}

int main(void) {
    RUN(test_layouts_of_two_venues_are_valid);
    RUN(test_layout_without_a_root_or_with_too_many_nodes_is_refused);
    RUN(test_layout_with_too_many_messages_is_refused);
    RUN(test_children_outside_the_table_are_refused);
    RUN(test_key_and_tag_and_word_longer_than_their_arrays_are_refused);
    RUN(test_unknown_slot_is_refused);
    RUN(test_unknown_record_and_kind_that_cannot_be_counted_are_refused);
    RUN(test_slot_that_the_record_has_no_place_for_is_refused);
    RUN(test_slot_of_a_kind_of_text_that_is_not_read_is_refused);
    RUN(test_array_of_records_outside_the_table_is_refused);
    RUN(test_any_layout_that_is_called_valid_can_be_scanned_with);
    return 0;
}

/* scanners.h — one message through every scanner that must agree: all levels of the processor,
 * each with templates and without. The one without templates at the base level is the reference.
 *
 * What a scanner says of a message is kept as a log: for every record its code, kind, instrument
 * and 64 bytes; for an error its code, position and instrument. Logs must be equal. */
#ifndef CROSSWIRE_TESTS_SCANNERS_H
#define CROSSWIRE_TESTS_SCANNERS_H

#include "fixture.h"

enum { VENUE = 4 };

typedef struct scanned_as {
    cw_scanner *scanner; /* on the heap, so that not a byte behind it is touched unseen */
    directory known;
    uint32_t instrument_next;
    const cw_ops *ops;
    bytes log;
} scanned_as;

typedef struct scanners {
    scanned_as all[2 * LEVELS];
    uint32_t count;
} scanners;

/* `takes_unknown` lets unknown symbols become instruments up to number 12. */
static void scanners_init(scanners *self, const cw_layout *layout, const char *const *symbols,
                          int takes_unknown) {
    const cw_ops *ops[LEVELS];
    memset(self, 0, sizeof *self);
    self->count = 2 * levels(ops);
    for (uint32_t i = 0; i < self->count; i++) {
        scanned_as *one = &self->all[i];
        one->ops = ops[i / 2];
        one->scanner = calloc(1, sizeof *one->scanner);
        CHECK(one->scanner != NULL);
        directory_init(&one->known, symbols);
        one->scanner->layout = layout;
        one->scanner->symbols = &one->known.symbols;
        one->scanner->venue = VENUE;
        one->scanner->predicts = i & 1;
        one->instrument_next = one->known.symbols.count;
        one->scanner->instrument_next = takes_unknown ? &one->instrument_next : NULL;
        one->scanner->instrument_limit = 12;
        cw_scanner_reset(one->scanner);
    }
}

static void scanners_free(scanners *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        bytes_free(&self->all[i].log);
        free(self->all[i].scanner);
        self->all[i].scanner = NULL;
    }
}

static void note_error(bytes *log, const cw_scanner *scanner) {
    put(log, &scanner->error.code, sizeof scanner->error.code);
    put(log, &scanner->error.at, sizeof scanner->error.at);
    put(log, &scanner->instrument, sizeof scanner->instrument);
}

static int scan_one(scanned_as *self, const block *b, cw_record *first) {
    cw_record row;
    int scanned, result;
    self->log.n = 0;
    memset(&row, 0xCC, sizeof row);
    result = scanned = self->ops->scan(self->scanner, b->text, (uint32_t)b->n, &row);
    if (first) *first = row;
    for (uint32_t limit = 0;; limit++) {
        CHECK(limit < b->n + 2);
        put(&self->log, &scanned, sizeof scanned);
        if (scanned >= CW_E_FIRST) {
            CHECK_EQ(self->scanner->error.code, scanned);
            CHECK(self->scanner->error.at <= b->n);
            CHECK(cw_code_name(scanned) != NULL);
            note_error(&self->log, self->scanner);
            break;
        }
        CHECK(scanned >= CW_SCAN_QUOTE && scanned <= CW_SCAN_END);
        if (scanned >= CW_SCAN_CONTROL) break;
        put(&self->log, &self->scanner->kind, 1);
        put(&self->log, &self->scanner->instrument, sizeof self->scanner->instrument);
        CHECK(self->scanner->instrument < CW_NO_INSTRUMENT);
        if (scanned != CW_SCAN_COUNTED) put(&self->log, &row, sizeof row);
        if (scanned == CW_SCAN_QUOTE) CHECK_EQ(row.quote.ts_rx, 0);
        memset(&row, 0xCC, sizeof row);
        scanned = self->ops->scan_next(self->scanner, &row);
    }
    return result;
}

/* Scan with all of them; returns what they agree upon. `first` is its first record, or NULL. */
static int scan_all(scanners *self, const void *text, size_t n, cw_record *first) {
    block b = block_of(text, n);
    scanned_as *reference = &self->all[0];
    int result = scan_one(reference, &b, first);
    for (uint32_t i = 1; i < self->count; i++) {
        scanned_as *one = &self->all[i];
        check_note("level %s, predicts %d, message (%zu bytes) %.*s", one->ops->name,
                   one->scanner->predicts, n, (int)(n < 3000 ? n : 3000), (const char *)text);
        (void)scan_one(one, &b, NULL);
        if (one->log.n != reference->log.n ||
            memcmp(one->log.p, reference->log.p, one->log.n) != 0) {
            int got, want;
            memcpy(&got, one->log.p, sizeof got);
            memcpy(&want, reference->log.p, sizeof want);
            fprintf(stderr, "it says %d, the base level without templates says %d\n", got, want);
            CHECK(!"all scanners agree");
        }
        CHECK_EQ(one->instrument_next, reference->instrument_next);
    }
    CHECK_BYTES(b.text, text, n);
    block_free(&b);
    return result;
}

static int scan_text(scanners *self, const char *text, cw_record *first) {
    int result = scan_all(self, text, strlen(text), first);
    check_note("message %s", text);
    return result;
}

static uint64_t template_hits(const scanners *self) {
    uint64_t hits = 0;
    for (uint32_t i = 0; i < self->count; i++) hits += self->all[i].scanner->hits;
    return hits;
}

#endif

/* base.c — the names and sentences of all codes. */
#include "crosswire/base.h"

typedef struct cw_code_words {
    const char *name, *text;
} cw_code_words;

static const cw_code_words ERRORS[CW_E_COUNT] = {
#define WORDS(code, name, text) [code - CW_E_FIRST] = {name, text}
    WORDS(CW_E_FRAME_RESERVED_BITS, "frame-reserved-bits", "a reserved bit is set"),
    WORDS(CW_E_FRAME_OPCODE, "frame-opcode", "unknown opcode"),
    WORDS(CW_E_FRAME_CONTROL_FRAGMENTED, "frame-control-fragmented", "fragmented control frame"),
    WORDS(CW_E_FRAME_CONTROL_TOO_LONG, "frame-control-too-long",
          "control frame longer than 125 bytes"),
    WORDS(CW_E_FRAME_LENGTH_FORM, "frame-length-form",
          "payload length not in its shortest form or above 2^63"),
    WORDS(CW_E_FRAME_MASKED, "frame-masked", "masked frame from a server"),
    WORDS(CW_E_FRAME_UNMASKED, "frame-unmasked", "unmasked frame from a client"),
    WORDS(CW_E_FRAME_TOO_BIG, "frame-too-big", "message larger than the limit"),
    WORDS(CW_E_FRAME_CONTINUATION, "frame-continuation",
          "continuation without a message, or a new message inside one"),
    WORDS(CW_E_FRAME_FRAGMENTS, "frame-fragments", "too many fragments in one message"),
    WORDS(CW_E_FRAME_CLOSE, "frame-close", "malformed close payload"),
    WORDS(CW_E_FRAME_FLOOD, "frame-flood", "too many control frames in one second"),
    WORDS(CW_E_UTF8, "utf8", "text is not UTF-8"),
    WORDS(CW_E_INFLATE, "inflate", "compressed data cannot be read"),
    WORDS(CW_E_MEMORY, "memory", "no memory for a message"),
    WORDS(CW_E_JSON_CUT, "json-cut", "the JSON text ends early"),
    WORDS(CW_E_JSON_SYNTAX, "json-syntax", "not JSON"),
    WORDS(CW_E_JSON_DEPTH, "json-depth", "nested deeper than 64"),
    WORDS(CW_E_JSON_TRAILING, "json-trailing", "bytes behind the JSON value"),
    WORDS(CW_E_KEY_DOUBLED, "key-doubled", "a key stands twice"),
    WORDS(CW_E_KEY_MISSING, "key-missing", "a required key is missing"),
    WORDS(CW_E_TYPE, "type", "a field is of the wrong JSON type or has an impossible value"),
    WORDS(CW_E_NUMBER_FORM, "number-form", "not a decimal number"),
    WORDS(CW_E_NUMBER_LENGTH, "number-length", "number of more than 64 characters"),
    WORDS(CW_E_NUMBER_RANGE, "number-range", "number out of range"),
    WORDS(CW_E_SYMBOL_UNKNOWN, "symbol-unknown", "a symbol that was not asked for"),
    WORDS(CW_E_SYMBOLS_FULL, "symbols-full", "no room for another symbol"),
    WORDS(CW_E_MESSAGE_UNKNOWN, "message-unknown", "neither data nor a known control message"),
    WORDS(CW_E_MESSAGE_BINARY, "message-binary", "binary message where text is spoken"),
#undef WORDS
};

static const cw_code_words *words_of(int code) {
    static const cw_code_words first[] = {
        {"ok", "no error"},
        {"need-more", "more bytes are needed"},
        {"full", "a bound is reached"},
        {"taken", "it is there already"},
    };
    if (code >= CW_OK && code <= CW_TAKEN) return &first[code];
    if (code >= CW_E_FIRST && code < CW_E_LAST) return &ERRORS[code - CW_E_FIRST];
    return NULL;
}

const char *cw_code_name(int code) {
    const cw_code_words *words = words_of(code);
    return words ? words->name : NULL;
}

const char *cw_code_text(int code) {
    const cw_code_words *words = words_of(code);
    return words ? words->text : NULL;
}

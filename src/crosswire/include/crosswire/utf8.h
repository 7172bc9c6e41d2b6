/* utf8.h — incremental UTF-8 validation, RFC 3629: shortest form, no surrogates, <= U+10FFFF. */
#ifndef CROSSWIRE_UTF8_H
#define CROSSWIRE_UTF8_H

#include "base.h"

/* State between pieces of one text; all zero at the start. */
typedef struct cw_utf8 {
    uint8_t need;      /* continuation bytes still to come */
    uint8_t low, high; /* bounds of the next one */
} cw_utf8;

/* Check `n` more bytes. CW_OK, or CW_E_UTF8 with the offset of the first bad byte in *at. */
int cw_utf8_feed(cw_utf8 *self, const uint8_t *p, size_t n, size_t *at);

/* 1 when the text may end here. */
int cw_utf8_is_whole(const cw_utf8 *self);

#endif

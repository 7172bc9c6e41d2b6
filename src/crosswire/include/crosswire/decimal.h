/* decimal.h — decimal text to the nearest double.
 *
 * Grammar: -? digit+ ( . digit+ )? ( [eE] [+-]? digit+ )?   Leading zeros are accepted: their
 * value is not in doubt. NaN, Infinity, hexadecimal and signs other than a leading minus are not
 * numbers. The result is the double nearest to the text (ties to even), whatever its length. */
#ifndef CROSSWIRE_DECIMAL_H
#define CROSSWIRE_DECIMAL_H

#include "base.h"

#define CW_DECIMAL_TEXT_MAX 64 /* bytes; longer text is CW_E_NUMBER_LENGTH */
#define CW_DECIMAL_EXPONENT_MAX 99

/* The text has more than 15 significant digits (leading and trailing zeros stripped), so that
 * another text may give the same double: no book key. */
#define CW_DECIMAL_INEXACT 1u

/* Read the whole of `n` bytes. CW_OK: *value is set and *flags is 0 or CW_DECIMAL_INEXACT.
 * Otherwise CW_E_NUMBER_FORM, _LENGTH or _RANGE with the offset in *at. Reads no byte outside
 * [p, p + n). */
int cw_decimal_read(const uint8_t *p, size_t n, double *value, uint32_t *flags, uint32_t *at);

/* Read an unsigned integer. Errors as above; _RANGE above 2^64-1 or 20 digits. */
int cw_integer_read(const uint8_t *p, size_t n, uint64_t *value, uint32_t *at);

#endif

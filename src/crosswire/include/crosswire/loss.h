/* loss.h — intervals of a stream that nobody brought, as told: from the last record before to the
 * first one behind. Those that ended are kept in a ring until they are read. */
#ifndef CROSSWIRE_LOSS_H
#define CROSSWIRE_LOSS_H

#include "base.h"

#define CW_LOSSES 1024 /* that ended and were not read; a power of two */

typedef enum cw_loss_cause {
    CW_LOSS_NONE = 0,
    CW_LOSS_LOST,    /* the connection ended */
    CW_LOSS_SILENT,  /* it brought no byte for too long */
    CW_LOSS_MESSAGE, /* a message could not be read */
    CW_LOSS_STALE    /* it brought no quote of the instrument for too long */
} cw_loss_cause;

typedef struct cw_loss {
    int64_t last_good_ts, first_good_ts; /* ts_rx; first_good_ts is 0 while it lasts */
    uint64_t last_seq, first_seq;        /* seq of a quote, id of a trade */
    uint32_t instrument;
    uint16_t line; /* that brought the stream before */
    uint8_t record; /* CW_QUOTE or CW_TRADE */
    uint8_t cause;
} cw_loss;

_Static_assert(sizeof(cw_loss) == 40, "no padding");

typedef struct cw_losses {
    cw_loss *rows; /* CW_LOSSES of them */
    uint64_t head, tail; /* written and read */
    uint64_t dropped; /* that nobody read before there was no more room */
} cw_losses;

/* Keep a loss that ended; the oldest gives way to it where there is no room. */
void cw_losses_put(cw_losses *self, const cw_loss *loss);

/* The oldest one, which is read then; 0 when there is none. */
int cw_losses_take(cw_losses *self, cw_loss *loss);

#endif

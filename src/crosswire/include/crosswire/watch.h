/* watch.h — streams that say nothing: an instrument's quotes against their deadline, and the losses
 * of its quotes and trades.
 *
 * A venue's data limit is the least deadline of an instrument's quotes; the deadline is that, or four
 * times the longest gap between them, if that is longer. The longest gap fades by time, with a time
 * constant of ten minutes. A top that was not quoted for longer is stale, and unreadable until it is
 * quoted again. A quote that repeats what is known moves the deadline as well. */
#ifndef CROSSWIRE_WATCH_H
#define CROSSWIRE_WATCH_H

#include "book.h"
#include "loss.h"
#include "stream.h"

struct cw_engine;

/* A quote was applied to a top that is watched: its loss ends, and its deadline moves. A loss that
 * was silence only, and ends on the line that was silent or on one that covered, is none: nothing is
 * missing. */
void cw_watch_quote(struct cw_engine *self, const cw_quote *quote);

/* A quote of a top that is watched repeats what is known: its deadline moves. */
void cw_watch_repeat(struct cw_engine *self, uint32_t instrument);

/* What stands in a stale top was said again, key and all: it stands, and is stale no more. */
void cw_watch_freshen(struct cw_engine *self, uint32_t instrument);

/* A trade of `line` came behind a loss, which ends. The stream still knows the trade before. */
void cw_watch_trade(struct cw_engine *self, uint16_t line, const cw_trade *trade);

/* The quotes, or trades, that `line` brought of an instrument are lost from here on, unless they
 * were never there or are lost already. */
void cw_watch_lose_quotes(struct cw_engine *self, uint32_t instrument, uint16_t line,
                          cw_loss_cause cause);
void cw_watch_lose_trades(struct cw_engine *self, uint32_t instrument, uint16_t line,
                          cw_loss_cause cause);

/* The line of a top that was not alive is alive: so is the top, but it may be stale. */
void cw_watch_revive(struct cw_engine *self, uint32_t instrument);

/* Find the tops that are stale, close what is open on them, and set the next deadline. Returns
 * signals written. */
uint32_t cw_watch_find_stale(struct cw_engine *self);

/* The loss of a stream that lasts: 1 and *loss; 0 when there is none. `record` is CW_QUOTE or
 * CW_TRADE. */
int cw_watch_open_loss(const struct cw_engine *self, uint32_t instrument, uint8_t record,
                       cw_loss *loss);

#endif

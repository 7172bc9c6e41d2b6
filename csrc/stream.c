/* stream.c — which trades are new, when several lines carry them. */
#include "crosswire/stream.h"

static int is_empty(const cw_hole *hole) { return hole->end <= hole->fill + 1; }

/* Keep one more hole: in an empty place, else in place of the oldest, if that is older. */
static void add_hole(cw_stream *self, uint64_t fill, uint64_t end) {
    cw_hole hole = {fill, end}, *place = &self->holes[0];
    if (is_empty(&hole)) return;
    for (uint32_t i = 0; i < CW_HOLES; i++) {
        if (is_empty(&self->holes[i])) {
            self->holes[i] = hole;
            return;
        }
        if (self->holes[i].end < place->end) place = &self->holes[i];
    }
    if (place->end < end) *place = hole;
}

int cw_stream_take_trade(cw_stream *self, uint32_t member, uint32_t join, uint64_t trade_id) {
    uint64_t id = trade_id < UINT64_MAX ? trade_id + 1 : UINT64_MAX;
    int is_joining = self->trade_joins[member] != join;
    self->trade_joins[member] = join;
    if (id > self->trade_max) {
        if (is_joining) add_hole(self, self->trade_max, id);
        self->trade_max = id;
        return 1;
    }
    for (uint32_t i = 0; i < CW_HOLES; i++) {
        cw_hole *hole = &self->holes[i];
        if (id <= hole->fill || id >= hole->end) continue;
        uint64_t fill = hole->fill;
        hole->fill = id;
        if (is_joining) add_hole(self, fill, id);
        return 1;
    }
    return 0;
}

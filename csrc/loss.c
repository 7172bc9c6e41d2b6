/* loss.c — the ring of losses that ended. */
#include "crosswire/loss.h"

void cw_losses_put(cw_losses *self, const cw_loss *loss) {
    if (self->head - self->tail == CW_LOSSES) {
        self->tail++;
        self->dropped++;
    }
    self->rows[self->head++ % CW_LOSSES] = *loss;
}

int cw_losses_take(cw_losses *self, cw_loss *loss) {
    if (self->head == self->tail) return 0;
    *loss = self->rows[self->tail++ % CW_LOSSES];
    return 1;
}

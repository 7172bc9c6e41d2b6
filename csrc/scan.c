/* scan.c — what of the scanner does not depend on the instruction set. */
#include "crosswire/scan.h"

void cw_scanner_reset(cw_scanner *self) {
    self->kind = 0;
    self->instrument = CW_NO_INSTRUMENT;
    memset(&self->error, 0, sizeof self->error);
    self->hits = self->misses = 0;
    self->miss_run = 0;
    self->template_count = 0;
    self->front = NULL;
    self->next_at = self->message = self->message_end = NULL;
    self->matched = NULL;
}

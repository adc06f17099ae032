#include "residual_internal.h"

void residual_begin(Residual *work)
{
    int32_t logit = -LOGIT_MOST;
    for (int32_t i = 0; i < 4096; i++) {
        while (logit < LOGIT_MOST && logistic(logit + 1) <= 16 * i + 8)
            logit++;
        work->logits[i] = (int16_t)logit;
    }
    for (uint32_t count = 0; count <= COUNT_MOST; count++)
        work->shares[count] = (uint16_t)(131072 / (2 * count + 3));
}

// SPDX-License-Identifier: GPL-2.0-or-later
// A driver's libnvidia-ml.so.1 with two cards, as far as collectors/nvml.py goes into it: the second
// card is an older one, without the instant field. Signatures and numbers are those of nvml.h.

#include <string.h>

typedef int nvmlReturn_t;
typedef struct { int index; } *nvmlDevice_t;
typedef union { double dVal; unsigned int uiVal; unsigned long long ullVal; } nvmlValue_t;
typedef struct {
    unsigned int fieldId, scopeId;
    long long timestamp, latencyUsec;
    unsigned int valueType;
    nvmlReturn_t nvmlReturn;
    nvmlValue_t value;
} nvmlFieldValue_t;

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3 };
enum { TOTAL_ENERGY = 83, POWER_INSTANT = 186, POWER_CURRENT_LIMIT = 190 };
enum { UNSIGNED_INT = 1, UNSIGNED_LONG_LONG = 3 };

static struct { int index; } cards[] = {{0}, {1}};
static unsigned long long energy_mj = 7200000;

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) { return flags ? INVALID_ARGUMENT : SUCCESS; }
nvmlReturn_t nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t result) { return result ? "the stub refuses" : "ok"; }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = 2;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index > 1)
        return INVALID_ARGUMENT;
    *device = (nvmlDevice_t)&cards[index];
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    strncpy(name, "Stub H100", length);
    return SUCCESS;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    strncpy(version, "0.1", length);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts) {
    *milliwatts = device->index ? 70500 : 999999; // of the first card the instant field counts
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    *reasons = device->index ? 0x40 : 0x04 | 0x80;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    for (int n = 0; n < count; n++) {
        nvmlFieldValue_t *each = &values[n];
        each->nvmlReturn = SUCCESS;
        each->valueType = UNSIGNED_INT;
        if (each->fieldId == POWER_INSTANT && device->index == 0)
            each->value.uiVal = 412300;
        else if (each->fieldId == POWER_CURRENT_LIMIT)
            each->value.uiVal = 700000;
        else if (each->fieldId == TOTAL_ENERGY) {
            each->valueType = UNSIGNED_LONG_LONG;
            each->value.ullVal = energy_mj += 3600;
        } else
            each->nvmlReturn = NOT_SUPPORTED;
    }
    return SUCCESS;
}

/* SPDX-License-Identifier: MIT */
/*
 * record.c - see record.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "record.h"

struct record {
    struct le32 size, flags;
    struct le64 seq, time_ns;
};
_Static_assert(sizeof(struct record) == RECORD_HEADER_SIZE, "as the manual has it");

void record_frame(unsigned char *to, uint32_t size, uint64_t seq, uint64_t time_ns)
{
    struct record record = {le32_put(size), le32_put(0), le64_put(seq), le64_put(time_ns)};
    uint64_t end = RECORD_HEADER_SIZE + (uint64_t)size;

    memcpy(to, &record, sizeof(record));
    memset(to + end, 0, record_size(size) - end);
}

/* The size of the valid record at `data`, with its padding; 0: there is none. */
static uint64_t record_check(const unsigned char *data, size_t size, struct record *ret_record)
{
    if (size < sizeof(*ret_record))
        return 0;
    memcpy(ret_record, data, sizeof(*ret_record));
    uint64_t data_size = le32_get(ret_record->size);
    uint64_t whole = record_size(data_size);
    if (le32_get(ret_record->flags) != 0 || whole > size)
        return 0;
    for (uint64_t i = RECORD_HEADER_SIZE + data_size; i < whole; i++) {
        if (data[i] != 0)
            return 0;
    }
    return whole;
}

int record_parse(const unsigned char *data, size_t size, struct iovec **ret_entries,
                 uint64_t **ret_times, size_t *ret_count)
{
    struct record record;
    size_t count = 0;

    for (size_t at = 0; at < size; count++) {
        uint64_t whole = record_check(data + at, size - at, &record);
        if (whole == 0)
            return -EINVAL;
        at += whole;
    }
    if (count == 0)
        return -EINVAL;
    struct iovec *entries = calloc(count, sizeof(*entries));
    uint64_t *times = calloc(count, sizeof(*times));
    if (entries == NULL || times == NULL) {
        free(entries);
        free(times);
        return -ENOMEM;
    }
    for (size_t at = 0, i = 0; i < count; i++) {
        memcpy(&record, data + at, sizeof(record));
        entries[i].iov_base = (void *)(uintptr_t)(data + at + RECORD_HEADER_SIZE);
        entries[i].iov_len = le32_get(record.size);
        times[i] = le64_get(record.time_ns);
        at += record_size(entries[i].iov_len);
    }
    *ret_entries = entries;
    *ret_times = times;
    *ret_count = count;
    return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * reference.h - a closed store that has one of everything, and what must be found in it.
 *
 * Serves the rot and fuzz tests and the tool that makes the golden images.  The bytes of the files
 * are kept in memory, so that a directory can be set up again from them in well under a
 * millisecond on tmpfs; so are those of an earlier moment of the same store.
 */
#ifndef TESTS_ROT_REFERENCE_H
#define TESTS_ROT_REFERENCE_H

#include "rig.h"

#define REF_IMAGE_MAX 16u
#define REF_TOPIC_MAX 16u
#define REF_ENTRY_MAX 128u
#define REF_GROUP_MAX 4u

struct ref_image {
    char name[64];
    uint8_t *data;
    size_t size;
    bool *pages; /* those of 4 KiB that are to be written, as they are not zero */
};

struct ref_images {
    struct ref_image list[REF_IMAGE_MAX];
    size_t count;
};

struct ref_group {
    uint64_t id, offset, pending;
    char name[32];
};

struct ref_topic {
    uint64_t id, first, tail;
    char name[32];
    size_t sizes[REF_ENTRY_MAX]; /* of entry first + i */
    struct ref_group groups[REF_GROUP_MAX];
    size_t group_count;
};

/* Where a record lies: header, data and padding. */
struct ref_record {
    size_t image;
    uint64_t off, end;
    size_t topic; /* index */
    uint64_t seq;
};

struct reference {
    struct ref_images images, older;
    struct ref_topic topics[REF_TOPIC_MAX];
    size_t topic_count;
    struct ref_record records[1024];
    size_t record_count;
    uint64_t seed; /* of the payloads */
};

/* Builds the store in rig->dir (fresh), with the rig's geometry, and describes it. */
void reference_make(struct reference *ref, struct rig *rig);
/* Describes a closed store that lies in rig->dir, which reference_make() once made. */
void reference_describe(struct reference *ref, struct rig *rig);
/* Unpacks a golden image NAME.tar.xz into `dir`, which exists. */
void golden_unpack(const char *name, const char *dir);
/* The golden images as the reference: the same bytes each time; rig->dir holds them then. */
void reference_load(struct reference *ref, struct rig *rig);
void reference_fini(struct reference *ref);

/* The files of `dir`, in memory; those that start with a dot and LOCK are left out. */
void images_read(struct ref_images *images, const char *dir);
void images_free(struct ref_images *images);
/* Makes `dir` hold exactly the files of `images`. */
void images_write(const struct ref_images *images, const char *dir);

/* The bytes have a meaning: rot in them must be noticed. */
bool reference_means(const struct reference *ref, size_t image, uint64_t off);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * driver.c - runs a fuzz target without libFuzzer: the corpus, and inputs made from it at random.
 *
 *     fuzz_NAME [--seed N] [--runs N] [FILE|DIRECTORY]...
 *
 * What tests and any compiler can run.  The input of a run that fails is kept in a file, whose name
 * is all that is needed to run it again.  With clang and -Dc_args=-fsanitize=fuzzer-no-link the same
 * targets are linked with libFuzzer instead (tests/campaigns/fuzz.sh).
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "powercut.h"
#include "rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_SIZE_MAX 4096u
#define CORPUS_MAX     4096u

struct input {
    uint8_t data[INPUT_SIZE_MAX];
    size_t size;
};

static struct input *corpus[CORPUS_MAX];
static size_t corpus_count;
static struct input now;
static uint64_t random_state;

static uint64_t random_next(uint64_t below)
{
    return powercut_random(&random_state, below);
}

static void keep_input(void)
{
    char name[64];
    snprintf(name, sizeof(name), "/tmp/fuzz-crash-%ld", (long)getpid());
    FILE *file = fopen(name, "w");
    if (file && fwrite(now.data, 1, now.size, file) == now.size && fclose(file) == 0)
        fprintf(stderr, "the input is in %s; replay with: PROGRAM --runs 0 %s\n", name, name);
}

static void on_signal(int number)
{
    signal(number, SIG_DFL);
    keep_input();
    raise(number);
}

static void run(void)
{
    /* A buffer of just that size, so that a sanitizer sees the first byte too many. */
    uint8_t *data = malloc(now.size + (now.size == 0));
    CHECK(data != NULL);
    memcpy(data, now.data, now.size);
    CHECK_INT(LLVMFuzzerTestOneInput(data, now.size), 0);
    free(data);
}

static void load(const char *path)
{
    struct stat st;
    CHECK_INT(stat(path, &st), 0);
    if (S_ISDIR(st.st_mode)) {
        struct dirent **list;
        int count = scandir(path, &list, NULL, alphasort);
        CHECK(count >= 0);
        for (int i = 0; i < count; i++) {
            char name[PATH_MAX];
            snprintf(name, sizeof(name), "%s/%s", path, list[i]->d_name);
            if (list[i]->d_name[0] != '.')
                load(name);
            free(list[i]);
        }
        free(list);
        return;
    }
    FILE *file = fopen(path, "r");
    struct input *input = calloc(1, sizeof(*input));
    CHECK(file != NULL && input != NULL && corpus_count < CORPUS_MAX);
    input->size = fread(input->data, 1, sizeof(input->data), file);
    fclose(file);
    corpus[corpus_count++] = input;
    now = *input;
    run();
}

/* Some of a corpus input, or none, with a few bytes changed, added or taken out. */
static void make_input(void)
{
    now.size = 0;
    if (corpus_count && random_next(8) != 0)
        now = *corpus[random_next(corpus_count)];
    for (uint64_t n = 1 + random_next(6); n > 0; n--) {
        size_t at = now.size ? random_next(now.size) : 0, count = 1 + random_next(16);
        switch (random_next(4)) {
        case 0:
            if (now.size)
                now.data[at] ^= (uint8_t)(1u << random_next(8));
            break;
        case 1:
            if (now.size)
                now.data[at] = (uint8_t)random_next(256);
            break;
        case 2:
            if (now.size + count > sizeof(now.data))
                break;
            memmove(now.data + at + count, now.data + at, now.size - at);
            for (size_t i = 0; i < count; i++)
                now.data[at + i] = (uint8_t)(random_next(3) ? random_next(256) : 0);
            now.size += count;
            break;
        default:
            count = count < now.size - at ? count : now.size - at;
            memmove(now.data + at, now.data + at + count, now.size - at - count);
            now.size -= count;
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t runs = 1000, seed = (uint64_t)getpid() ^ now_ms() << 16;
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGFPE, on_signal);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            runs = strtoull(argv[++i], NULL, 0);
        else
            load(argv[i]);
    }
    random_state = seed;
    printf("%s: corpus of %zu, seed %llu\n", argv[0], corpus_count, (unsigned long long)seed);
    fflush(stdout);
    uint64_t start = now_ms();
    for (uint64_t i = 0; i < runs; i++) {
        make_input();
        run();
    }
    printf("%s: %llu runs, %llu/s\n", argv[0], (unsigned long long)runs,
           (unsigned long long)(runs * 1000 / (now_ms() - start + 1)));
    for (size_t i = 0; i < corpus_count; i++)
        free(corpus[i]);
    return 0;
}

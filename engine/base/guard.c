/* SPDX-License-Identifier: MIT */
/*
 * guard.c - the SIGBUS handler, and the copies and checksums that it protects.
 *
 * Serves everything that touches a mapped file.  No locks; each thread has a pointer of its own to
 * the access that it is in the middle of, which lies on its stack.  An access costs a sigsetjmp
 * without signal mask, about ten nanoseconds, so that every single append can afford it.
 *
 * Normal path: publish the frame, touch the mapping, withdraw the frame.  On SIGBUS inside one of
 * the frame's two ranges the handler jumps back and the access returns -EIO.  The handler runs with
 * SIGBUS unblocked (SA_NODEFER) and an empty mask, so the jump leaves the signal mask as it was.
 * Any other SIGBUS is handed to whoever handled it before, and where that was nobody the default
 * action is restored: the instruction runs again and the process ends as it would have without us.
 */
#include "guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <ucontext.h>

#include "crc32c.h"

/* Machines differ in how exactly they name the address: some give only its page. */
#define FAULT_GRAIN 4096u

struct guard_frame {
    uintptr_t to, from; /* first bytes of the ranges; 0: no such range */
    size_t to_size, from_size;
    sigjmp_buf jump;
};

/* initial-exec: a thread's first look at it may be in the handler, where nothing may allocate. */
static __thread struct guard_frame *current __attribute__((tls_model("initial-exec")));

static struct sigaction previous;
static pthread_once_t installed = PTHREAD_ONCE_INIT;

static bool range_has(uintptr_t start, size_t size, uintptr_t addr)
{
    uintptr_t low = round_down(start, FAULT_GRAIN);
    return start != 0 && addr >= low && addr - low < size + (start - low);
}

/* A SIGBUS that is not ours. */
static void guard_pass_on(int sig, siginfo_t *info, void *context)
{
    bool sent = info->si_code <= 0; /* by kill(2) and its like: returning would lose it */

    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(sig, info, context);
        return;
    }
    if (previous.sa_handler == SIG_IGN && sent)
        return;
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(sig);
        return;
    }
    struct sigaction fatal = {.sa_handler = SIG_DFL};
    WALRUS_ASSERT(sigaction(sig, &fatal, NULL) == 0);
    if (sent)
        WALRUS_ASSERT(raise(sig) == 0);
}

static void guard_handle(int sig, siginfo_t *info, void *context)
{
    struct guard_frame *frame = current;
    uintptr_t addr = (uintptr_t)info->si_addr;

    if (frame && info->si_code > 0 &&
        (range_has(frame->to, frame->to_size, addr) ||
         range_has(frame->from, frame->from_size, addr))) {
        /* The thread sanitizer blocks every signal around a handler, and the jump saves no mask. */
        const ucontext_t *interrupted = context;
        (void)pthread_sigmask(SIG_SETMASK, &interrupted->uc_sigmask, NULL);
        siglongjmp(frame->jump, 1);
    }
    guard_pass_on(sig, info, context);
}

static void guard_install_once(void)
{
    struct sigaction action = {
        .sa_sigaction = guard_handle,
        .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
    };
    WALRUS_ASSERT(sigemptyset(&action.sa_mask) == 0);
    /* Read first: a fault between the two steps of one call must not find `previous` empty. */
    WALRUS_ASSERT(sigaction(SIGBUS, NULL, &previous) == 0);
    WALRUS_ASSERT(sigaction(SIGBUS, &action, NULL) == 0);
}

void guard_install(void)
{
    WALRUS_ASSERT(pthread_once(&installed, guard_install_once) == 0);
}

/* The fences keep the compiler from moving accesses of the mapping out of the guarded stretch. */
static inline void guard_enter(struct guard_frame *frame)
{
    current = frame;
    atomic_signal_fence(memory_order_seq_cst);
}

static inline int guard_leave(int result)
{
    atomic_signal_fence(memory_order_seq_cst);
    current = NULL;
    return result;
}

int guard_copy(void *to, const void *from, size_t size)
{
    struct guard_frame frame;

    if (size == 0) /* either may be NULL then */
        return 0;
    frame.to = (uintptr_t)to;
    frame.from = (uintptr_t)from;
    frame.to_size = frame.from_size = size;
    if (sigsetjmp(frame.jump, 0) != 0)
        return guard_leave(-EIO);
    guard_enter(&frame);
    memcpy(to, from, size);
    return guard_leave(0);
}

int guard_crc(uint32_t *ret_crc, uint32_t seed, const void *from, size_t size)
{
    struct guard_frame frame;

    frame.from = (uintptr_t)from;
    frame.from_size = size;
    frame.to = 0;
    if (sigsetjmp(frame.jump, 0) != 0)
        return guard_leave(-EIO);
    guard_enter(&frame);
    uint32_t crc = crc32c(seed, from, size);
    (void)guard_leave(0);
    *ret_crc = crc;
    return 0;
}

/* No instruction touches two pages: guard.h says why.  Not inline, where its variables would be ones
 * that the jump may spoil. */
static __attribute__((noinline)) void copy_by_page(uint8_t *to, const uint8_t *from, size_t size)
{
    while (size > 0) {
        size_t piece = FAULT_GRAIN - ((uintptr_t)to & (FAULT_GRAIN - 1));
        piece = MIN(piece, size);
        /* Where it knows that this is less than a page, the compiler makes a `rep movs` of it, which
         * needs longer to begin than a line to be copied. */
        __asm__("" : "+r"(piece));
        memcpy(to, from, piece);
        to += piece;
        from += piece;
        size -= piece;
    }
}

int guard_store(void *to, const void *header, size_t header_size, const void *data, size_t size)
{
    struct guard_frame frame;

    frame.to = (uintptr_t)to;
    frame.to_size = header_size + size;
    frame.from = 0;
    if (sigsetjmp(frame.jump, 0) != 0)
        return guard_leave(-EIO);
    guard_enter(&frame);
    copy_by_page((uint8_t *)to + header_size, data, size);
    /* Whoever sees the header, in this process or in what a killed one left, sees the data. */
    atomic_thread_fence(memory_order_release);
    copy_by_page(to, header, header_size);
    return guard_leave(0);
}

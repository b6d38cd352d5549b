/* What user-mode Linux 6.1 gives back of a process's registers is cut off after 2,696 bytes. A
 * processor with AMX has 11,008, and its kernel takes all of them or none (EFAULT: "ptrace set fp
 * regs failed, errno = 14"). Loaded before libc, this adds the rest: AMX's registers, as they are
 * at first. Nothing in the lab uses them, for a process has to ask its kernel before.
 *
 * Sources: ptrace(2), PTRACE_SETREGSET; Linux, arch/x86/um/user-offsets.c (HOST_FP_SIZE) and
 * arch/x86/kernel/fpu/regset.c (xstateregs_set); Intel's manual, volume 1, 13.4 "XSAVE area". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define WHICH 512 /* The offset of the bits that say which registers are not as at first. */
#define AMX (UINT64_C(3) << 17)

/* Not on the stack: a kernel's is small. It runs on one thread. */
static char all[1 << 16];

long ptrace(enum __ptrace_request request, ...)
{
    va_list rest;
    va_start(rest, request);
    long pid = va_arg(rest, long), address = va_arg(rest, long);
    struct iovec *data = va_arg(rest, struct iovec *);
    va_end(rest);
    long (*real)(enum __ptrace_request, ...) = dlsym(RTLD_NEXT, "ptrace");
    if (request != PTRACE_SETREGSET || address != NT_X86_XSTATE)
        return real(request, pid, address, data);
    static struct iovec whole;
    if (!whole.iov_base) {
        struct iovec present = {all, sizeof all};
        if (real(PTRACE_GETREGSET, pid, address, &present) < 0)
            return -1;
        whole = present;
        memset(all, 0, sizeof all);
    }
    memcpy(all, data->iov_base, data->iov_len);
    *(uint64_t *)(all + WHICH) &= ~AMX;
    return real(request, pid, address, &whole);
}

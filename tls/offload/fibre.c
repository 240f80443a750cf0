// SPDX-License-Identifier: Apache-2.0
#include "tls/offload/fibre.h"

#ifdef __x86_64__
#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#ifdef TLS_HAS_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum { GUARD_BYTES = 4096 };

struct tls_fibre {
	void *own, *back; /* stack pointers: where it yielded, and of who runs it */
	uint8_t *stack;	  /* lowest byte; below it the guard page */
	struct tls_fibres *pool;
	struct tls_fibre *next; /* free */
	void (*run)(void *user);
	void *user;
	bool is_over;
	/* ASan's notes on either stack; else unused */
	void *fake;
	const void *back_stack;
	size_t back_bytes;
};

struct tls_fibres {
	uint8_t *stacks;
	size_t bytes;
	uint32_t count, used;
	struct tls_fibre *free;
	struct tls_fibre all[];
};

/* ---- the switch ---- */

/* What a call keeps by the ABI (System V x86-64, 3.2.1): rbx, rbp, r12 to r15, and the control words of SSE and
 * x87. All else is the caller's to save. */
struct frame {
	uint32_t mxcsr;
	uint32_t control;
	uint64_t r15, r14, r13, r12, rbx, rbp;
	void (*at)(void);
	uint64_t none[2]; /* a return address that ends a debugger's walk, and the alignment */
};

void tls_fibre_switch(void **from, void *to);
void tls_fibre_first(void);
[[noreturn]] void tls_fibre_main(struct tls_fibre *fibre);

__asm__(".text\n"
	".p2align 4\n"
	".globl tls_fibre_switch\n"
	".hidden tls_fibre_switch\n"
	".type tls_fibre_switch, @function\n"
	"tls_fibre_switch:\n"
	"	endbr64\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	subq $8, %rsp\n"
	"	stmxcsr (%rsp)\n"
	"	fnstcw 4(%rsp)\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	ldmxcsr (%rsp)\n"
	"	fldcw 4(%rsp)\n"
	"	addq $8, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size tls_fibre_switch, .-tls_fibre_switch\n"
	".globl tls_fibre_first\n"
	".hidden tls_fibre_first\n"
	".type tls_fibre_first, @function\n"
	"tls_fibre_first:\n"
	"	endbr64\n"
	"	movq %r12, %rdi\n"
	"	call tls_fibre_main\n"
	"	ud2\n"
	".size tls_fibre_first, .-tls_fibre_first\n");

/* Told before and after each switch, ASan knows which stack it is on. */
static void leave(void **fake, const void *stack, size_t bytes)
{
#ifdef TLS_HAS_ASAN
	__sanitizer_start_switch_fiber(fake, stack, bytes);
#endif
}

static void arrive(void *fake, const void **stack, size_t *bytes)
{
#ifdef TLS_HAS_ASAN
	__sanitizer_finish_switch_fiber(fake, stack, bytes);
#endif
}

bool tls_fibre_resume(struct tls_fibre *fibre)
{
	void *fake = NULL;
	leave(&fake, fibre->stack, TLS_FIBRE_STACK_BYTES);
	tls_fibre_switch(&fibre->back, fibre->own);
	arrive(fake, NULL, NULL);
	return fibre->is_over;
}

void tls_fibre_yield(struct tls_fibre *fibre)
{
	leave(&fibre->fake, fibre->back_stack, fibre->back_bytes);
	tls_fibre_switch(&fibre->own, fibre->back);
	arrive(fibre->fake, &fibre->back_stack, &fibre->back_bytes);
}

/* A fibre never ends: over, it waits for what to run next. */
__attribute__((used)) void tls_fibre_main(struct tls_fibre *fibre)
{
	arrive(NULL, &fibre->back_stack, &fibre->back_bytes);
	for (;;) {
		fibre->run(fibre->user);
		fibre->is_over = true;
		tls_fibre_yield(fibre);
	}
}

bool tls_fibre_start(struct tls_fibre *fibre, void (*run)(void *user), void *user)
{
	fibre->run = run;
	fibre->user = user;
	fibre->is_over = false;
	return tls_fibre_resume(fibre);
}

/* ---- the pool ---- */

static void fibre_init(struct tls_fibre *fibre, struct tls_fibres *pool, uint8_t *at)
{
	enum { MXCSR_DEFAULT = 0x1f80, X87_DEFAULT = 0x37f }; /* as a process starts with them */
	static_assert(sizeof(struct frame) % 16 == 0, "a call's stack is aligned to 16");
	struct frame *frame =
		(struct frame *)(at + GUARD_BYTES + TLS_FIBRE_STACK_BYTES - sizeof *frame);
	*frame = (struct frame){.mxcsr = MXCSR_DEFAULT,
		.control = X87_DEFAULT,
		.r12 = (uint64_t)(uintptr_t)fibre,
		.at = tls_fibre_first};
	fibre->stack = at + GUARD_BYTES;
	fibre->own = frame;
	fibre->pool = pool;
	fibre->next = pool->free;
	pool->free = fibre;
}

struct tls_fibres *tls_fibres_create(uint32_t count)
{
	const size_t each = GUARD_BYTES + TLS_FIBRE_STACK_BYTES;
	struct tls_fibres *pool = calloc(1, sizeof *pool + count * sizeof pool->all[0]);
	if (pool == NULL)
		return NULL;
	pool->count = count;
	pool->bytes = count * each;
	pool->stacks = mmap(NULL, pool->bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (pool->stacks == MAP_FAILED) {
		free(pool);
		return NULL;
	}
	for (uint32_t i = count; i-- > 0;) {
		if (mprotect(pool->stacks + i * each, GUARD_BYTES, PROT_NONE) != 0) {
			tls_fibres_destroy(pool);
			return NULL;
		}
		fibre_init(&pool->all[i], pool, pool->stacks + i * each);
	}
	return pool;
}

void tls_fibres_destroy(struct tls_fibres *fibres)
{
	if (fibres == NULL)
		return;
	assert(fibres->used == 0);
	munmap(fibres->stacks, fibres->bytes);
	free(fibres);
}

struct tls_fibre *tls_fibre_get(struct tls_fibres *fibres)
{
	struct tls_fibre *fibre = fibres->free;
	if (fibre == NULL)
		return NULL;
	fibres->free = fibre->next;
	fibres->used++;
	return fibre;
}

void tls_fibre_put(struct tls_fibre *fibre)
{
	assert(fibre->is_over);
	fibre->next = fibre->pool->free;
	fibre->pool->free = fibre;
	fibre->pool->used--;
}

/* A fresh mapping is zero, and what was touched is hardly all zero. */
__attribute__((no_sanitize("address"))) static size_t stack_held(const struct tls_fibre *fibre)
{
	const volatile uint64_t *word = (const volatile uint64_t *)fibre->stack;
	size_t untouched = 0;
	while (untouched < TLS_FIBRE_STACK_BYTES / 8 && word[untouched] == 0)
		untouched++;
	return TLS_FIBRE_STACK_BYTES - untouched * 8;
}

size_t tls_fibres_stack_most(const struct tls_fibres *fibres)
{
	size_t most = 0;
	for (uint32_t i = 0; i < fibres->count; i++) {
		size_t held = stack_held(&fibres->all[i]);
		most = held > most ? held : most;
	}
	return most;
}

#else /* a processor whose switch nobody has written */

struct tls_fibres *tls_fibres_create(uint32_t)
{
	return NULL;
}
void tls_fibres_destroy(struct tls_fibres *) {}
struct tls_fibre *tls_fibre_get(struct tls_fibres *)
{
	return NULL;
}
void tls_fibre_put(struct tls_fibre *) {}
bool tls_fibre_start(struct tls_fibre *, void (*)(void *), void *)
{
	return true;
}
bool tls_fibre_resume(struct tls_fibre *)
{
	return true;
}
void tls_fibre_yield(struct tls_fibre *) {}
size_t tls_fibres_stack_most(const struct tls_fibres *)
{
	return 0;
}
#endif

/* A pattern over much of the RAM, verified for ever and slowly rewritten. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "witness.h"

enum { PAGE = 4096, WORDS = PAGE / 8, PAGES_PER_MIB = 256, REWRITE_EVERY = 16, COMPLAINTS = 20 };

static uint64_t *pattern;
static uint32_t *generation;  /* of each page */
static size_t pages;

/* A page's words count up from a number that its address, its generation and this boot determine. */
static uint64_t first_word(size_t page)
{
    return mix(boot_mark ^ mix((uintptr_t)(pattern + page * WORDS)) ^ mix((uint64_t)generation[page] << 32 | page));
}

static void write_page(size_t page)
{
    uint64_t word = first_word(page), *at = pattern + page * WORDS;
    for (int i = 0; i < WORDS; i++) at[i] = word + i;
}

static int page_is_right(size_t page)
{
    uint64_t word = first_word(page), different = 0;
    const volatile uint64_t *at = pattern + page * WORDS;
    for (int i = 0; i < WORDS; i++) different |= at[i] ^ (word + i);
    return !different;
}

/* A wrong page is counted once: it is put right. */
static void visit(size_t page, uint64_t pass)
{
    int right = page_is_right(page);
    if (!right && ++counters.ram_errors <= COMPLAINTS) say("RAM ERROR page %zu of %zu", page, pages);
    if (right && (page + pass) % REWRITE_EVERY) return;
    generation[page]++;
    write_page(page);
}

static int fill(void)
{
    pages = (size_t)options.ram_mib * PAGES_PER_MIB;
    generation = calloc(pages, sizeof *generation);
    pattern = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!generation || pattern == MAP_FAILED) return -1;
    for (size_t page = 0; page < pages; page++) write_page(page);
    return 0;
}

void ram(void *unused)
{
    (void)unused;
    if (fill() < 0) return failed("ram");
    counters.ram_mib = options.ram_mib;
    say("ram filled %u", options.ram_mib);
    become(LAST);
    for (uint64_t pass = 0;; pass++) {
        for (size_t page = 0; page < pages; page++) {
            visit(page, pass);
            if (page % PAGES_PER_MIB == 0) sleep_us(options.ram_pause_us);
        }
        counters.ram_passes++;
    }
}

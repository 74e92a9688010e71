/* What a TPM must not forget: a register that only ever is extended, a stored number, a sealed secret. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "witness.h"

enum { ROUND_US = 250000, TELL_EVERY = 4, COMPLAINTS = 20, REPLY = 1024 };

struct reply {
    uint8_t data[REPLY];
    ssize_t size;
};

static int device = -1;
static unsigned complaints;
static uint32_t answer;  /* the last response code; ~0: none at all */

static void wrong(const char *what)
{
    counters.failures++;
    if (++complaints <= COMPLAINTS) say("TPM ERROR %s (last answer %x)", what, answer);
}

static uint32_t word(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static uint32_t send(struct reply *reply, const uint8_t *command, size_t size)
{
    reply->size = -1;
    if (write(device, command, size) == (ssize_t)size) reply->size = read(device, reply->data, REPLY);
    return answer = reply->size < 10 ? ~0u : word(reply->data + 6);
}

#define ASK(reply, ...) send(reply, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define W(x) (uint8_t)((x) >> 24), (uint8_t)((x) >> 16), (uint8_t)((x) >> 8), (uint8_t)(x)
#define EIGHT(x) W((uint64_t)(x) >> 32), W(x)
#define FOUR_TIMES(x) x, x, x, x
/* TPM 2.0, part 3: an empty password; TPM_RH_OWNER; what follows is named by its command. */
#define EMPTY_AUTH W(9), W(0x40000009), 0, 0, 0, 0, 0
#define OWNER W(0x40000001)
#define INDEX W(0x01800001)

static int extend(struct reply *reply)
{
    if (options.tpm == 1)
        return ASK(reply, 0x00, 0xc1, W(34), W(0x14), W(16), FOUR_TIMES(W(1)), W(1)) == 0;
    return ASK(reply, 0x80, 0x02, W(65), W(0x182), W(16), EMPTY_AUTH, W(1), 0x00, 0x0b, FOUR_TIMES(W(1)),
               FOUR_TIMES(W(2))) == 0;
}

/* PCR 16, which anybody may extend; NULL if it can't be read. */
static const uint8_t *pcr(struct reply *reply)
{
    if (options.tpm == 1)
        return ASK(reply, 0x00, 0xc1, W(14), W(0x15), W(16)) == 0 && reply->size >= 30 ? reply->data + 10 : NULL;
    uint32_t code = ASK(reply, 0x80, 0x01, W(20), W(0x17e), W(1), 0x00, 0x0b, 3, 0, 0, 1);
    return code == 0 && reply->size >= 62 ? reply->data + 30 : NULL;
}

static int define(struct reply *reply)
{
    enum { ALREADY_DEFINED = 0x14c };
    uint32_t code = ASK(reply, 0x80, 0x02, W(45), W(0x12a), OWNER, EMPTY_AUTH, 0, 0, 0, 14, INDEX, 0x00, 0x0b,
                        W(0x02060006), 0, 0, 0, 8);
    return code == 0 || code == ALREADY_DEFINED;
}

static int store(struct reply *reply, uint64_t number)
{
    return ASK(reply, 0x80, 0x02, W(43), W(0x137), OWNER, INDEX, EMPTY_AUTH, 0, 8, EIGHT(number), 0, 0) == 0;
}

static int stored(struct reply *reply, uint64_t number)
{
    const uint8_t wanted[] = {EIGHT(number)};
    uint32_t code = ASK(reply, 0x80, 0x02, W(35), W(0x14e), OWNER, INDEX, EMPTY_AUTH, 0, 8, 0, 0);
    return code == 0 && reply->size >= 24 && !memcmp(reply->data + 16, wanted, sizeof wanted);
}

/* A primary object that holds the secret: it is in the TPM's memory alone.  Returns its handle, 0 if there is none. */
static uint32_t seal(struct reply *reply, uint64_t secret)
{
    uint32_t code = ASK(reply, 0x80, 0x02, W(63), W(0x131), OWNER, EMPTY_AUTH, 0, 12, 0, 0, 0, 8, EIGHT(secret), 0, 14,
                        0x00, 0x08, 0x00, 0x0b, W(0x452), 0, 0, 0x00, 0x10, 0, 0, 0, 0, W(0));
    return code == 0 && reply->size >= 14 ? word(reply->data + 10) : 0;
}

static int unsealed(struct reply *reply, uint32_t handle, uint64_t secret)
{
    const uint8_t wanted[] = {EIGHT(secret)};
    uint32_t code = ASK(reply, 0x80, 0x02, W(27), W(0x15e), W(handle), EMPTY_AUTH);
    return code == 0 && reply->size >= 24 && !memcmp(reply->data + 16, wanted, sizeof wanted);
}

static void second_version(uint64_t round, uint32_t handle)
{
    struct reply reply;
    if (round && !stored(&reply, boot_mark + round - 1)) wrong("the stored number is another");
    if (!store(&reply, boot_mark + round)) wrong("a number can't be stored");
    if (!unsealed(&reply, handle, boot_mark)) wrong("the sealed secret is another, or gone");
}

void tpm(void *unused)
{
    (void)unused;
    struct reply reply;
    uint8_t last[20];
    uint32_t handle = 0;
    if ((device = open_soon("/dev/tpm0", O_RDWR)) < 0) return failed("/dev/tpm0");
    if (options.tpm == 2 && (!define(&reply) || !(handle = seal(&reply, boot_mark)))) return wrong("it can't be set up");
    for (uint64_t round = 0;; round++) {
        const uint8_t *now = pcr(&reply);
        if (!now || (round && memcmp(now, last, sizeof last))) wrong("the register is another, or can't be read");
        if (!extend(&reply)) wrong("the register can't be extended");
        if (!(now = pcr(&reply)) || !memcmp(now, last, sizeof last)) wrong("the register wasn't extended");
        if (now) memcpy(last, now, sizeof last);
        if (options.tpm == 2) second_version(round, handle);
        if (round % TELL_EVERY == 0) say("tpm round %llu", (unsigned long long)round);
        sleep_us(ROUND_US);
    }
}

// SPDX-License-Identifier: Apache-2.0
/* A generation of which any bytes were changed: refused, or safe to read and to ask anything.
 *
 * The input is a list of changes to a sound generation: 2 bytes of offset, 1 of kind, 4 of value. */
#include "control/shm/fuzz_read.h"

#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char documents[] =
	"{\"profiles\": [{\"id\": \"p\", \"level\": \"verify\", \"names\": [\"a.test\", \".b.test\"],"
	" \"groups\": \"X25519\", \"ca_pem\": \"own\"}],"
	"\"in_rules\": [{\"id\": \"a\", \"client\": \"192.0.2.0/24\", \"listener\": \"smtp\"},"
	" {\"id\": \"b\", \"client_name\": \".example.test\", \"profile\": \"p\"},"
	" {\"id\": \"c\", \"sender\": \"x@example.test\", \"recipient\": \".example.test\"}],"
	"\"out_rules\": [{\"id\": \"a\", \"domain\": \"xn--bcher-kva.example.test\", \"mx\": \"mx.test\"},"
	" {\"id\": \"b\", \"sender\": \"<>\", \"destination\": \"192.0.2.0/24\"}],"
	"\"routes\": [{\"id\": \"a\", \"domain\": \"example.test\", \"via\": \"hosts\", \"hosts\":"
	" [{\"host\": \"mx.example.test\"}, {\"host\": \"192.0.2.9\", \"tls\": \"smtps\"}]},"
	" {\"id\": \"b\", \"domain\": \".example.test\"}, {\"id\": \"c\", \"domain\": \"*\"}],"
	"\"ca_pem\": \"roots\"}";

struct copy {
	uint8_t *at;
	size_t n;
};

static struct copy copy_of(int fd)
{
	struct stat status;
	if (fstat(fd, &status) != 0)
		abort();
	struct copy copy = {malloc((size_t)status.st_size), (size_t)status.st_size};
	if (copy.at == NULL || pread(fd, copy.at, copy.n, 0) != (ssize_t)copy.n)
		abort();
	close(fd);
	return copy;
}

static struct copy sound, sound_keys;

static void make_sound(void)
{
	static const struct policy_cert cert = {
		"c", BYTES_LITERAL("chain"), BYTES_LITERAL("key"), true};
	char error[512];
	int policy_fd, keys_fd;
	if (policy_compile(bytes_of_string(documents), &cert, 1, 1, &policy_fd, &keys_fd, error) != 0)
		abort();
	sound = copy_of(policy_fd);
	sound_keys = copy_of(keys_fd);
}

static void change(struct copy *object, const uint8_t step[7])
{
	uint32_t value, old = 0;
	size_t at = (size_t)(step[0] | step[1] << 8) % object->n;
	size_t width = step[2] % 3 == 0 ? 1 : step[2] % 3 == 1 ? 2 : 4;
	if (at + width > object->n)
		width = 1;
	memcpy(&value, step + 3, sizeof value);
	memcpy(&old, object->at + at, width);
	if (step[2] & 0x40) /* near the old value, where bounds are */
		value = old + (uint32_t)(int8_t)step[3];
	memcpy(object->at + at, &value, width);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct policy policy;
	if (sound.at == NULL)
		make_sound();
	struct copy object = {malloc(sound.n), sound.n}, keys = {malloc(sound_keys.n), sound_keys.n};
	if (object.at == NULL || keys.at == NULL)
		abort();
	memcpy(object.at, sound.at, sound.n);
	memcpy(keys.at, sound_keys.at, sound_keys.n);
	size_t i = 0;
	for (; i + 7 <= n; i += 7)
		change(data[i + 2] & 0x80 ? &keys : &object, data + i);
	if (policy_view(&policy, bytes_of(object.at, object.n), bytes_of(keys.at, keys.n)) == 0)
		fuzz_read_all(&policy, bytes_of(data + i, n - i));
	free(object.at);
	free(keys.at);
	return 0;
}

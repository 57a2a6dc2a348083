/*
 * What `openssl speed` runs, but a fixed amount of work instead of a fixed time: the same functions of
 * the same libcrypto, through EVP.
 *
 *   crypto sha256 BLOCKS           a hash of each of BLOCKS blocks of 16 KiB, the last one's result in the next
 *   crypto rsa2048 KEY.PEM COUNT   COUNT signatures, each made and verified
 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 16384

static void need(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "crypto: %s failed\n", what);
	exit(1);
}

static void print(const unsigned char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		printf("%02x", bytes[i]);
	putchar('\n');
}

static void sha256(long blocks)
{
	static unsigned char data[BLOCK];
	unsigned char hash[EVP_MAX_MD_SIZE] = {0};
	unsigned length = 32;

	for (size_t i = 0; i < BLOCK; i++)
		data[i] = (unsigned char)(i * 7);
	for (long i = 0; i < blocks; i++) {
		memcpy(data, hash, length);
		need(EVP_Digest(data, BLOCK, hash, &length, EVP_sha256(), NULL), "EVP_Digest");
	}
	print(hash, length);
}

static void rsa(const char *file, long count)
{
	unsigned char hash[32] = {1}, signature[256];
	size_t length = 0;
	FILE *in = fopen(file, "r");
	EVP_PKEY *key = in ? PEM_read_PrivateKey(in, NULL, NULL, NULL) : NULL;
	EVP_PKEY_CTX *sign, *verify;

	need(key != NULL, "reading the key");
	fclose(in);
	sign = EVP_PKEY_CTX_new(key, NULL);
	verify = EVP_PKEY_CTX_new(key, NULL);
	need(EVP_PKEY_sign_init(sign) > 0 && EVP_PKEY_CTX_set_signature_md(sign, EVP_sha256()) > 0, "sign_init");
	need(EVP_PKEY_verify_init(verify) > 0 && EVP_PKEY_CTX_set_signature_md(verify, EVP_sha256()) > 0, "verify_init");
	for (long i = 0; i < count; i++) {
		length = sizeof(signature);
		need(EVP_PKEY_sign(sign, signature, &length, hash, sizeof(hash)) > 0, "EVP_PKEY_sign");
		need(EVP_PKEY_verify(verify, signature, length, hash, sizeof(hash)) > 0, "EVP_PKEY_verify");
		memcpy(hash, signature, sizeof(hash));
	}
	print(signature, length);
	EVP_PKEY_CTX_free(sign);
	EVP_PKEY_CTX_free(verify);
	EVP_PKEY_free(key);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "sha256"))
		sha256(atol(argv[2]));
	else if (argc == 4 && !strcmp(argv[1], "rsa2048"))
		rsa(argv[2], atol(argv[3]));
	else
		need(0, "reading the arguments");
	return 0;
}

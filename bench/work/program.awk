# Writes the C program that the row `gcc` builds: DIR/part0.c ... DIR/part2.c and DIR/main.c, about 2000
# lines. The same program on every run: all variety comes from a generator with a fixed seed.
# usage: awk -v dir=DIR -f program.awk </dev/null

function random(n) {
	seed = (seed * 1103 + 12345) % 1048573
	return int(seed / 7) % n
}

# One function of the part, of one of seven kinds; f is its name, g one that was written before (or "").
function emit(f, g, file,    a, b, n, i, kind) {
	a = random(97) + 3
	b = random(31) + 1
	n = random(24) + 8
	kind = random(7)
	print "" >file
	if (kind == 0) {
		printf "static uint32_t %s(uint32_t x)\n{\n\tuint32_t h = x ^ %du;\n\n", f, a * 7919 >file
		printf "\tfor (unsigned i = 0; i < %d; i++) {\n\t\tswitch ((h >> %d) %% 9) {\n", n, b % 13 >file
		for (i = 0; i < 8; i++)
			printf "\t\tcase %d: h = h * %du + (x >> %d); break;\n", i, 2 * random(5000) + 3, random(19) + 1 >file
		printf "\t\tdefault: h ^= h >> %d; break;\n\t\t}\n\t}\n", b % 15 + 1 >file
	} else if (kind == 1) {
		printf "static uint32_t %s(uint32_t x)\n{\n\tstruct item *head = NULL, *next;\n\tuint32_t h = 0;\n\n", f >file
		printf "\tfor (uint32_t i = 0; i < %d; i++) {\n\t\tstruct item *item = malloc(sizeof(*item));\n\n", n >file
		printf "\t\tif (!item)\n\t\t\tabort();\n\t\titem->key = (x + i) * %du;\n\t\titem->weight = (int16_t)(x %% %d);\n", a, b + 1 >file
		printf "\t\titem->next = head;\n\t\thead = item;\n\t}\n\tfor (; head; head = next) {\n\t\tnext = head->next;\n" >file
		printf "\t\th = (h << 5 | h >> 27) ^ (head->key + (uint32_t)head->weight);\n\t\tfree(head);\n\t}\n" >file
	} else if (kind == 2) {
		printf "static uint32_t %s(uint32_t x)\n{\n\tuint32_t m[%d][%d], h = 0;\n\n", f, b % 5 + 3, a % 5 + 3 >file
		printf "\tfor (unsigned i = 0; i < %d; i++)\n\t\tfor (unsigned j = 0; j < %d; j++)\n", b % 5 + 3, a % 5 + 3 >file
		printf "\t\t\tm[i][j] = x * (i + %d) + j * %du;\n", b, a >file
		printf "\tfor (unsigned j = 0; j < %d; j++)\n\t\tfor (unsigned i = 0; i < %d; i++)\n", a % 5 + 3, b % 5 + 3 >file
		printf "\t\t\th += m[i][j] ^ (m[%d - i][j] >> %d);\n", b % 5 + 2, b % 11 + 1 >file
	} else if (kind == 3) {
		printf "static uint32_t %s(uint32_t x)\n{\n\tchar text[64];\n\tuint32_t h = %du;\n\tint length;\n\n", f, a >file
		printf "\tlength = snprintf(text, sizeof(text), \"%s:%%08x-%%u-%%d\", x, x %% %du, (int)(x >> %d));\n", f, a, b % 20 + 8 >file
		printf "\tfor (int i = 0; i < length; i++)\n\t\th = h * 33 + (unsigned char)(isalpha((unsigned char)text[i]) ? toupper(text[i]) : text[i]);\n" >file
		printf "\th += (uint32_t)strspn(text, \"%s\") + (uint32_t)strtoul(text + %d, NULL, 16);\n", f, length(f) + 1 >file
	} else if (kind == 4) {
		printf "static uint32_t %s(uint32_t x)\n{\n\tuint32_t list[%d], h = 0;\n\n", f, n >file
		printf "\tfor (unsigned i = 0; i < %d; i++)\n\t\tlist[i] = (x + i) * %du %% %du;\n", n, a * 31 + 1, a * b + 5 >file
		printf "\tqsort(list, %d, sizeof(list[0]), compare_u32);\n\tfor (unsigned i = 1; i < %d; i++)\n", n, n >file
		printf "\t\th = h * 17 + (list[i] - list[i - 1]) * (list[i] > %d ? 3 : 5);\n", b >file
	} else if (kind == 5) {
		printf "static uint32_t %s(uint32_t x)\n{\n\tdouble s = %d.25, t = 1.0 / (x %% 1000 + 1);\n\tuint32_t h;\n\n", f, b >file
		printf "\tfor (int i = 1; i <= %d; i++) {\n\t\ts += t * i / (i + %d.5);\n\t\tt = t > %d ? t * 0.5 : t + s * 0.125;\n\t}\n", n, b, a >file
		printf "\th = (uint32_t)(int64_t)(s * 4096.0) ^ (uint32_t)(int64_t)(t * %d);\n", a >file
	} else {
		printf "static uint32_t %s(uint32_t x)\n{\n\tuint64_t w = (uint64_t)x << 32 | (x ^ %du);\n\tuint32_t h = 0;\n\n", f, a * 104729 >file
		printf "\twhile (w) {\n\t\th += (uint32_t)(w & %d) * %du;\n\t\tif (w & 1)\n\t\t\th ^= (uint32_t)(w >> %d);\n", 2 * b + 1, a, b % 24 >file
		printf "\t\tw = (w & -w) == w ? 0 : w >> %d;\n\t}\n", b % 3 + 1 >file
	}
	if (g != "")
		printf "\tif (h & %d)\n\t\th += %s(h >> %d);\n", b % 3 + 4, g, a % 9 + 20 >file
	printf "\treturn h;\n}\n" >file
}

BEGIN {
	seed = 4711
	parts = 3
	functions = 36
	for (p = 0; p < parts; p++) {
		file = dir "/part" p ".c"
		print "#include <ctype.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n" >file
		print "uint32_t part" p "(uint32_t x);\n" >file
		print "struct item {\n\tstruct item *next;\n\tuint32_t key;\n\tint16_t weight;\n};\n" >file
		print "__attribute__((unused)) static int compare_u32(const void *a, const void *b)\n{" >file
		print "\tuint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;\n\n\treturn (x > y) - (x < y);\n}" >file
		for (i = 0; i < functions; i++)
			emit("f" p "_" i, i > 2 ? "f" p "_" random(i) : "", file)
		print "\nuint32_t part" p "(uint32_t x)\n{" >file
		for (i = 0; i < functions; i++)
			print "\tx += f" p "_" i "(x + " i ");" >file
		print "\treturn x;\n}" >file
	}
	file = dir "/main.c"
	print "#include <inttypes.h>\n#include <stdint.h>\n#include <stdio.h>\n" >file
	for (p = 0; p < parts; p++)
		print "uint32_t part" p "(uint32_t x);" >file
	print "\nint main(void)\n{\n\tuint32_t x = 1;\n\n\tfor (int i = 0; i < 100; i++) {" >file
	for (p = 0; p < parts; p++)
		print "\t\tx ^= part" p "(x);" >file
	print "\t}\n\tprintf(\"%08\" PRIx32 \"\\n\", x);\n\treturn 0;\n}" >file
}

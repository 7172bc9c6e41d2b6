/* fuzz_main.c — run a libFuzzer target without libFuzzer.
 *
 *     fuzz_x [-runs=N] [-seed=S] [-max_len=L] FILE-OR-FOLDER...
 *
 * Every file is run once as it is. Then N inputs are made from the files: bits flipped, bytes and
 * signs written, inserted and deleted, pieces doubled and taken from other files. No coverage
 * guides it: it is a net with wide meshes that needs nothing but a compiler. */
#define _DEFAULT_SOURCE 1 /* scandir */

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES_MAX = 4096 };

static bytes files[FILES_MAX];
static uint32_t file_count;
static size_t len_max = 4096;

/* The input stands in a block of its exact size, as with libFuzzer. */
static void run(const uint8_t *p, size_t n) {
    uint8_t *data = malloc(n ? n : 1);
    CHECK(data != NULL);
    if (n) memcpy(data, p, n);
    (void)LLVMFuzzerTestOneInput(data, n);
    free(data);
}

static void take_file(const char *path) {
    uint8_t chunk[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f || file_count == FILES_MAX) {
        fprintf(stderr, "%s: %s\n", path, f ? "too many files" : strerror(errno));
        exit(2);
    }
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0) put(&files[file_count], chunk, n);
    fclose(f);
    file_count++;
}

static void take_path(const char *path) {
    struct stat about;
    struct dirent **entries;
    int count;
    if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) {
        take_file(path);
        return;
    }
    count = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char inner[4096];
        snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') take_path(inner);
        free(entries[i]);
    }
    free(entries);
}

static void insert(bytes *input, size_t at, const uint8_t *p, size_t n) {
    bytes rest = {0};
    put(&rest, input->p + at, input->n - at);
    input->n = at;
    put(input, p, n);
    put(input, rest.p, rest.n);
    bytes_free(&rest);
}

static void mutate(bytes *input, dice *d) {
    static const char SIGNS[] = "{}[]:,\"\\0123456789.eE+-truefalsn \n\t";
    const bytes *other = &files[below(d, file_count)];
    size_t at = input->n ? below(d, (uint32_t)input->n) : 0, n;
    uint8_t byte = below(d, 2) ? (uint8_t)SIGNS[below(d, sizeof SIGNS - 1)] : (uint8_t)roll(d);
    if (input->n == 0) {
        put(input, &byte, 1);
        return;
    }
    n = 1 + below(d, (uint32_t)(input->n - at));
    if (n > 40) n = 1 + n % 40;
    switch (below(d, 7)) {
    case 0: input->p[at] ^= (uint8_t)(1u << below(d, 8)); break;
    case 1: input->p[at] = byte; break;
    case 2: insert(input, at, &byte, 1); break;
    case 3:
        memmove(input->p + at, input->p + at + n, input->n - at - n);
        input->n -= n;
        break;
    case 4: { /* double a piece */
        bytes piece = {0};
        put(&piece, input->p + at, n);
        insert(input, below(d, (uint32_t)input->n + 1), piece.p, piece.n);
        bytes_free(&piece);
        break;
    }
    case 5: /* a piece of another file */
        if (other->n) {
            size_t from = below(d, (uint32_t)other->n);
            n = 1 + below(d, (uint32_t)(other->n - from));
            insert(input, at, other->p + from, n);
        }
        break;
    default: input->n = below(d, 4) ? input->n : at;
    }
}

int main(int argc, char **argv) {
    dice d = {1};
    long runs = 0;
    uint64_t total = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-runs=", 6) == 0) runs = strtol(argv[i] + 6, NULL, 10);
        else if (strncmp(argv[i], "-seed=", 6) == 0) d.state = strtoull(argv[i] + 6, NULL, 10);
        else if (strncmp(argv[i], "-max_len=", 9) == 0) len_max = strtoul(argv[i] + 9, NULL, 10);
        else if (argv[i][0] != '-') take_path(argv[i]);
    }
    for (uint32_t i = 0; i < file_count; i++) run(files[i].p, files[i].n);
    if (file_count == 0) file_count = 1; /* begin with nothing */
    for (long i = 0; i < runs; i++) {
        bytes input = {0};
        const bytes *from = &files[below(&d, file_count)];
        put(&input, from->p, from->n);
        for (uint32_t k = 1 + below(&d, 6); k; k--) mutate(&input, &d);
        if (input.n > len_max) input.n = len_max;
        total += input.n;
        run(input.p, input.n);
        bytes_free(&input);
    }
    printf("ok %u files, %ld inputs made from them, %llu bytes\n", file_count, runs,
           (unsigned long long)total);
    for (uint32_t i = 0; i < FILES_MAX; i++) bytes_free(&files[i]);
    return 0;
}

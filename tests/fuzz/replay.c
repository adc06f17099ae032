/* replay.c: runs a libFuzzer target over the files named on the command line, without libFuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
            perror(argv[i]);
            return 2;
        }
        size_t size = (size_t)ftell(file);
        rewind(file);
        uint8_t *data = malloc(size); /* of the exact size, so that a target reads no byte more */
        if (fread(data, 1, size, file) != size) {
            perror(argv[i]);
            return 2;
        }
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    printf("%d inputs\n", argc - 1);
    return 0;
}

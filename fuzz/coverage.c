/* What gcc's -fsanitize-coverage=trace-pc calls at each edge: which were met is kept in a map. */

#include <stdint.h>
#include <string.h>

#define EDGES (1 << 16)

static uint8_t met[EDGES], ever[EDGES];
static uintptr_t before;

void __sanitizer_cov_trace_pc(void) {
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    met[(here ^ (before >> 1)) & (EDGES - 1)] = 1;
    before = here;
}

/* Forget what was met; return how many edges of it were new. */
int phextsync_new_edges(void) {
    int found = 0;
    for (int i = 0; i < EDGES; i++) {
        found += met[i] && !ever[i];
        ever[i] |= met[i];
    }
    memset(met, 0, sizeof met);
    before = 0;
    return found;
}

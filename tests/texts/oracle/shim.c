/* Stands in for the calls of `xl -N create FILE` that would reach a hypervisor, so that it runs on any machine.
   Built and preloaded by real_xl.py. The host's configuration file is read from $XL_CONF instead of /etc/xen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *xc_interface_open(void *logger, void *dombuild_logger, unsigned flags) { return calloc(1, 4096); }
int xc_interface_close(void *xch) { return 0; }
void *xs_open(unsigned long flags) { return calloc(1, 4096); }
void xs_close(void *xs) {}
void *xengnttab_open(void *logger, unsigned flags) { return calloc(1, 64); }
void *xenevtchn_open(void *logger, unsigned flags) { return calloc(1, 64); }
int xc_get_max_cpus(void *xch) { return 8; }
int xc_get_max_nodes(void *xch) { return 1; }
int xc_get_online_cpus(void *xch) { return 8; }
int libxl_get_physinfo(void *ctx, void *physinfo) { return 0; }

int xc_version(void *xch, int command, void *answer) {
    if (command == 0) /* version */
        return (4 << 16) | 17;
    if (command == 7) /* page size */
        return 4096;
    if (answer)
        memset(answer, 0, 64);
    if (command == 3 && answer) /* capabilities */
        strcpy(answer, "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_64 ");
    return 0;
}

FILE *fopen(const char *path, const char *mode) {
    FILE *(*real)(const char *, const char *) = dlsym(RTLD_NEXT, "fopen");
    const char *conf = getenv("XL_CONF");
    size_t length = strlen(path);
    int is_conf = length >= 8 && !strcmp(path + length - 8, "/xl.conf");
    return real(is_conf && conf ? conf : path, mode);
}

FILE *fopen64(const char *path, const char *mode) { return fopen(path, mode); }

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A library that reads $SECRET in every program that it is loaded into.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void go(void)
{
	char byte;
	int fd = open(getenv("SECRET"), O_RDONLY);

	(void)!read(fd, &byte, 1);
}

// SPDX-License-Identifier: Apache-2.0
/* base/alone_main.c: the main of the programs that link one library alone, to prove what it needs. */
int main(void)
{
	return 0;
}

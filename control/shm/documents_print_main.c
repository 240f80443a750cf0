// SPDX-License-Identifier: Apache-2.0
/* hikyaku-documents-print: writes the reference of the policy's documents, from the table of their fields.
 *
 *   hikyaku-documents-print > docs/documents.md */
#include "control/shm/documents.h"

int main(void)
{
	documents_print_reference(stdout);
	return 0;
}

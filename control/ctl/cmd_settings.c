// SPDX-License-Identifier: Apache-2.0
/* control/ctl/cmd_settings.c: the start-time configuration. */
#include "control/ctl/ctl.h"

#include <errno.h>

#include "control/config/config.h"
#include "control/ctl/text.h"

const char *ctl_default_socket(void)
{
	static const struct {
		const char *path, *otherwise;
	} settings[] = {
#define S(path, type, strct, member, least, most, detail, otherwise, sentence) {path, otherwise},
#include "control/config/settings.def"
#undef S
	};
	size_t i = 0;
	while (strcmp(settings[i].path, "paths.api_socket") != 0)
		i++;
	return settings[i].otherwise;
}

int settings_show(struct ctl *ctl, const struct args *args)
{
	struct url url;
	struct reply reply;
	url_init(&url, "/v1/config");
	url_query(&url, "full", args_named(args, "--full") != NULL ? "1" : NULL);
	int rc = api_get_text(ctl, &url, &reply);
	if (rc == EX_OK)
		text_put(stdout, bytes_of(reply.body, reply.n), TEXT_KEEP_LINES);
	reply_fini(&reply);
	return rc;
}

static int exit_code_of(int error)
{
	switch (error) {
	case 0: return EX_OK;
	case -ENOENT: return EX_NOINPUT;
	case -EACCES:
	case -EPERM: return EX_NOPERM;
	case -ENOMEM: return EX_OSERR;
	}
	return EX_CONFIG;
}

/* Here, without a daemon: the file is checked before one is started with it. */
int settings_check(struct ctl *ctl, const struct args *args)
{
	char error[512] = "";
	struct config *config = NULL;
	const char *path = args_value(args, 0) == NULL ? CONFIG_PATH_DEFAULT : args_value(args, 0);
	int rc = config_load(path, &config, error);
	if (rc < 0)
		return ctl_fail(exit_code_of(rc), "%s", error[0] == '\0' ? strerror(-rc) : error);
	config_free(config);
	ctl_say(ctl, "%s is right", path);
	return EX_OK;
}

int settings_reference(struct ctl *ctl, const struct args *args)
{
	config_print_reference(stdout);
	return EX_OK;
}

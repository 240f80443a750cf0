// SPDX-License-Identifier: Apache-2.0
#include "smtp/parse/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define A10 "aaaaaaaaaa"
#define A60 A10 A10 A10 A10 A10 A10
#define A63 A60 "aaa"
#define D63 "ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"

/* What a good path comes to: mailbox and domain. */
static const struct {
	const char *path, *mailbox, *domain;
} good[] = {
	{"<>",					  "",			       ""		       },
	{"<a@b.test>",				  "a@b.test",			   "b.test"		   },
	{"<a@b>",				       "a@b",			    "b"			    },
	{"<A.b.C@Sub-Domain.9.test>",		      "A.b.C@Sub-Domain.9.test",	 "Sub-Domain.9.test"	    },
	{"<!#$%&'*+-/=?^_`{|}~@b.test>",		 "!#$%&'*+-/=?^_`{|}~@b.test",     "b.test"		       },
	{"<1@1.2.3>",				   "1@1.2.3",			 "1.2.3"			},
	{"<a@under_score.test>",			 "a@under_score.test",	       "under_score.test"	 },
	{"<a@b--c.test>",			       "a@b--c.test",			 "b--c.test"		    },
	{"<a@xn--bcher-kva.test>",			   "a@xn--bcher-kva.test",	   "xn--bcher-kva.test"     },
 /* postmaster alone (RFC 5321 4.1.1.3) */
	{"<postmaster>",				"postmaster",		       ""			 },
	{"<PostMaster>",				"PostMaster",		       ""			 },
	{"<postmaster@b.test>",				"postmaster@b.test",		     "b.test"		     },
 /* quoted strings: opaque, kept as they came */
	{"<\"\"@b.test>",			       "\"\"@b.test",			 "b.test"		 },
	{"<\"a b\"@b.test>",			     "\"a b\"@b.test",		       "b.test"		       },
	{"<\"a@c.test\"@b.test>",			  "\"a@c.test\"@b.test",		 "b.test"		 },
	{"<\"a>b<,:;()[]\"@b.test>",		     "\"a>b<,:;()[]\"@b.test",	       "b.test"		       },
	{"<\"\\\"\\\\\\a\"@b.test>",		     "\"\\\"\\\\\\a\"@b.test",	       "b.test"		       },
 /* neither % nor ! means anything */
	{"<u%c.test@b.test>",			      "u%c.test@b.test",		 "b.test"		 },
	{"<c.test!u@b.test>",			      "c.test!u@b.test",		 "b.test"		 },
 /* address literals */
	{"<a@[192.0.2.1]>",			     "a@[192.0.2.1]",		     "[192.0.2.1]"		  },
	{"<a@[IPv6:2001:db8::1]>",			   "a@[IPv6:2001:db8::1]",	   "[IPv6:2001:db8::1]"     },
	{"<a@[ipv6:::]>",			       "a@[ipv6:::]",			 "[ipv6:::]"		    },
	{"<a@[IPv6:::ffff:192.0.2.1]>",			"a@[IPv6:::ffff:192.0.2.1]",	     "[IPv6:::ffff:192.0.2.1]"},
 /* source routes go */
	{"<@c.test:a@b.test>",			       "a@b.test",			   "b.test"		   },
	{"<@c.test,@d.test:a@b.test>",		       "a@b.test",			   "b.test"		   },
	{"<@[192.0.2.1]:a@b.test>",			    "a@b.test",			"b.test"			},
	{"<@c.test:\"a@e.test\"@b.test>",		  "\"a@e.test\"@b.test",		 "b.test"		 },
 /* limits, to the octet */
	{"<" A60 "aaaa@b.test>",			 A60 "aaaa@b.test",		    "b.test"		    },
	{"<a@" D63 ".test>",			     "a@" D63 ".test",		       D63 ".test"		  },
	{"<a@" D63 "." D63 "." D63 "." A60 ">",		"a@" D63 "." D63 "." D63 "." A60,
		D63 "." D63 "." D63 "." A60									       },
 /* a long route before a short mailbox is none of our limits */
	{"<@" D63 "." D63 "." D63 "." D63 ":a@b.test>", "a@b.test",			    "b.test"		    },
};

static const struct {
	const char *path;
	enum address_error error;
} bad[] = {
	{"",				      ADDRESS_NO_PATH    },
	{"a@b.test",			      ADDRESS_NO_PATH    },
	{" <a@b.test>",			   ADDRESS_NO_PATH    },
	{"<",				     ADDRESS_BAD	 },
	{"< >",				   ADDRESS_BAD	   },
	{"<a@b.test",			     ADDRESS_BAD	 },
	{"<<a@b.test>>",			  ADDRESS_BAD	    },
	{"<@>",				   ADDRESS_BAD	   },
	{"<@b.test>",			     ADDRESS_BAD	 },
	{"<a@>",				  ADDRESS_BAD	    },
	{"<a>",				   ADDRESS_UNQUALIFIED},
	{"<a.b%c.test>",			  ADDRESS_UNQUALIFIED},
	{"<\"a@b.test\">",			   ADDRESS_UNQUALIFIED},
	{"<@c.test:a>",			   ADDRESS_UNQUALIFIED},
	{"<\"postmaster\">",			     ADDRESS_UNQUALIFIED},
	{"<postmaster2>",			  ADDRESS_UNQUALIFIED},
 /* two @ */
	{"<a@b.test@c.test>",		      ADDRESS_BAD	 },
	{"<a@@b.test>",			   ADDRESS_BAD	   },
	{"<a@b.test@[192.0.2.1]>",		   ADDRESS_BAD	      },
	{"<a@\"b\"@c.test>",			     ADDRESS_BAD	},
 /* dots */
	{"<.a@b.test>",			   ADDRESS_BAD	   },
	{"<a.@b.test>",			   ADDRESS_BAD	   },
	{"<a..b@b.test>",			  ADDRESS_BAD	     },
	{"<.@b.test>",			    ADDRESS_BAD	  },
	{"<a@.b.test>",			   ADDRESS_BAD	   },
	{"<a@b..test>",			   ADDRESS_BAD	   },
	{"<a@b.test.>",			   ADDRESS_BAD	   },
	{"<a@.>",				 ADDRESS_BAD	     },
 /* hyphens */
	{"<a@-b.test>",			   ADDRESS_BAD	   },
	{"<a@b-.test>",			   ADDRESS_BAD	   },
	{"<a@->",				 ADDRESS_BAD	     },
 /* characters */
	{"<a b@c.test>",			  ADDRESS_BAD	    },
	{"<a @c.test>",			   ADDRESS_BAD	   },
	{"<a@ c.test>",			   ADDRESS_BAD	   },
	{"<a@c.test >",			   ADDRESS_BAD	   },
	{"<a(x)@c.test>",			  ADDRESS_BAD	     },
	{"<(x)a@c.test>",			  ADDRESS_BAD	     },
	{"<a,b@c.test>",			  ADDRESS_BAD	    },
	{"<a:b@c.test>",			  ADDRESS_BAD	    },
	{"<a;b@c.test>",			  ADDRESS_BAD	    },
	{"<a[b]@c.test>",			  ADDRESS_BAD	     },
	{"<a\\@b@c.test>",			   ADDRESS_BAD	      },
	{"<a\\b@c.test>",			  ADDRESS_BAD	     },
	{"<a@c!d.test>",			  ADDRESS_BAD	    },
	{"<a@c/d.test>",			  ADDRESS_BAD	    },
	{"<a@c\\d.test>",			  ADDRESS_BAD	     },
	{"<a\x01@c.test>",			   ADDRESS_BAD	      },
	{"<a\x7f@c.test>",			   ADDRESS_BAD	      },
 /* quotes */
	{"<\"@c.test>",			   ADDRESS_BAD	   },
	{"<\"a@c.test>",			  ADDRESS_BAD	    },
	{"<a\"@c.test>",			  ADDRESS_BAD	    },
	{"<\"a\"b@c.test>",			    ADDRESS_BAD	       },
	{"<\"a\".b@c.test>",			     ADDRESS_BAD	},
	{"<a.\"b\"@c.test>",			     ADDRESS_BAD	},
	{"<\"a\"\"b\"@c.test>",			ADDRESS_BAD	   },
	{"<\"a\\\"@c.test>",			     ADDRESS_BAD	},
	{"<\"a\\",				ADDRESS_BAD	      },
	{"<\"a\tb\"@c.test>",		      ADDRESS_BAD	 },
	{"<\"a\\\x01\"@c.test>",			 ADDRESS_BAD	    },
	{"<\"a\\\xc3\xa4\"@c.test>",		     ADDRESS_BAD	},
 /* literals */
	{"<a@[]>",				ADDRESS_BAD	      },
	{"<a@[192.0.2]>",			  ADDRESS_BAD	     },
	{"<a@[192.0.2.256]>",		      ADDRESS_BAD	 },
	{"<a@[192.0.2.1>",			   ADDRESS_BAD	      },
	{"<a@192.0.2.1]>",			   ADDRESS_BAD	      },
	{"<a@[[192.0.2.1]]>",		      ADDRESS_BAD	 },
	{"<a@[192.0.2.1].test>",			 ADDRESS_BAD	    },
	{"<a@x[192.0.2.1]>",			     ADDRESS_BAD	},
	{"<a@[IPv6:]>",			   ADDRESS_BAD	   },
	{"<a@[IPv6:192.0.2.1]>",			 ADDRESS_BAD	    },
	{"<a@[2001:db8::1]>",		      ADDRESS_BAD	 },
	{"<a@[IPv6:2001:db8::1%eth0]>",		ADDRESS_BAD	   },
	{"<a@[IPv6:1:2:3:4:5:6:7]>",		     ADDRESS_BAD	},
	{"<a@[x-tag:foo]>",			    ADDRESS_BAD	       },
 /* routes */
	{"<@c.test a@b.test>",		       ADDRESS_BAD	  },
	{"<@c.test:>",			    ADDRESS_BAD	  },
	{"<@c.test:@d.test:a@b.test>",	       ADDRESS_BAD	  },
	{"<@c.test,d.test:a@b.test>",	      ADDRESS_BAD	 },
	{"<@c.test,:a@b.test>",			ADDRESS_BAD	   },
	{"<@:a@b.test>",			  ADDRESS_BAD	    },
	{"<c.test:a@b.test>",		      ADDRESS_BAD	 },
 /* limits */
	{"<" A60 "aaaaa@b.test>",		  ADDRESS_TOO_LONG	  },
	{"<\"" A63 "\"@b.test>",			 ADDRESS_TOO_LONG	 },
	{"<a@" D63 "d.test>",		      ADDRESS_BAD	 },
	{"<aa@" D63 "." D63 "." D63 "." A60 ">",	 ADDRESS_TOO_LONG	 },
	{"<a@" D63 "." D63 "." D63 "." D63 ".d>", ADDRESS_TOO_LONG	  },
 /* UTF-8 that is none: lone, cut off, overlong, surrogate, too high, C1 control */
	{"<\x80@b.test>",			  ADDRESS_BAD	     },
	{"<\xc3@b.test>",			  ADDRESS_BAD	     },
	{"<\xe2\x82@b.test>",		      ADDRESS_BAD	 },
	{"<\xc0\xaf@b.test>",		      ADDRESS_BAD	 },
	{"<\xc1\x81@b.test>",		      ADDRESS_BAD	 },
	{"<\xe0\x80\xaf@b.test>",		  ADDRESS_BAD	     },
	{"<\xf0\x80\x80\xaf@b.test>",	      ADDRESS_BAD	 },
	{"<\xed\xa0\x80@b.test>",		  ADDRESS_BAD	     },
	{"<\xf4\x90\x80\x80@b.test>",	      ADDRESS_BAD	 },
	{"<\xf5\x80\x80\x80@b.test>",	      ADDRESS_BAD	 },
	{"<\xff@b.test>",			  ADDRESS_BAD	     },
	{"<\xc2\x85@b.test>",		      ADDRESS_BAD	 },
	{"<a@\xc3.test>",			  ADDRESS_BAD	     },
};

static void equal(struct bytes got, const char *expected)
{
	char text[600];
	assert_true(bytes_to_string(got, text, sizeof text));
	assert_string_equal(text, expected);
}

static void good_paths_are_taken_apart(void **state)
{
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		struct address a;
		size_t used;
		struct bytes path = bytes_of_string(good[i].path);
		if (address_parse(path, ADDRESS_LOCAL_MAX, &a, &used) != ADDRESS_OK)
			fail_msg("refused: %s", good[i].path);
		assert_int_equal(used, path.n);
		equal(a.mailbox, good[i].mailbox);
		equal(a.domain, good[i].domain);
		assert_false(a.is_utf8);
	}
}

static void bad_paths_are_told_apart(void **state)
{
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct address a;
		size_t used;
		enum address_error error =
			address_parse(bytes_of_string(bad[i].path), ADDRESS_LOCAL_MAX, &a, &used);
		if (error != bad[i].error)
			fail_msg("%s: %d, expected %d", bad[i].path, error, bad[i].error);
	}
}

static void what_is_behind_the_path_is_left(void **state)
{
	struct address a;
	size_t used;
	assert_int_equal(
		address_parse(BYTES_LITERAL("<a@b.test> SIZE=1>"), 64, &a, &used), ADDRESS_OK);
	assert_int_equal(used, 10);
}

static void a_nul_is_never_part_of_an_address(void **state)
{
	struct address a;
	size_t used;
	assert_int_equal(address_parse(BYTES_LITERAL("<a\0@b.test>"), 64, &a, &used), ADDRESS_BAD);
	assert_int_equal(
		address_parse(BYTES_LITERAL("<\"a\0\"@b.test>"), 64, &a, &used), ADDRESS_BAD);
	assert_int_equal(
		address_parse(BYTES_LITERAL("<a@[192.0.2.1\0]>"), 64, &a, &used), ADDRESS_BAD);
	assert_int_equal(address_parse(BYTES_LITERAL("<a@b\0.test>"), 64, &a, &used), ADDRESS_BAD);
}

static void utf8_is_noticed_in_local_part_and_domain_but_not_in_a_route(void **state)
{
	static const struct {
		const char *path;
		bool is_utf8;
	} cases[] = {
		{"<\xc3\xa4@b.test>",	      true },
		{"<\"\xe2\x82\xac\"@b.test>",   true },
		{"<a@\xf0\x9f\x93\xae.test>",   true },
		{"<a.\xf4\x8f\xbf\xbf@b.test>", true },
		{"<@\xc3\xa4.test:a@b.test>",   false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct address a;
		size_t used;
		assert_int_equal(
			address_parse(bytes_of_string(cases[i].path), 64, &a, &used), ADDRESS_OK);
		assert_int_equal(a.is_utf8, cases[i].is_utf8);
	}
}

/* Every beginning of a good path is bad, so none can be taken for it. */
static void no_prefix_of_a_path_is_a_path(void **state)
{
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		for (size_t n = 0; n < strlen(good[i].path); n++) {
			struct address a;
			size_t used;
			assert_int_not_equal(
				address_parse(bytes_of(good[i].path, n), 64, &a, &used),
				ADDRESS_OK);
		}
}

static void domains_stand_alone(void **state)
{
	assert_true(address_is_domain(BYTES_LITERAL("a.test")));
	assert_true(address_is_domain(BYTES_LITERAL("[192.0.2.1]")));
	assert_false(address_is_domain(BYTES_LITERAL("")));
	assert_false(address_is_domain(BYTES_LITERAL("a.test.")));
	assert_false(address_is_domain(BYTES_LITERAL("a.test b")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_paths_are_taken_apart),
		cmocka_unit_test(bad_paths_are_told_apart),
		cmocka_unit_test(what_is_behind_the_path_is_left),
		cmocka_unit_test(a_nul_is_never_part_of_an_address),
		cmocka_unit_test(utf8_is_noticed_in_local_part_and_domain_but_not_in_a_route),
		cmocka_unit_test(no_prefix_of_a_path_is_a_path),
		cmocka_unit_test(domains_stand_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

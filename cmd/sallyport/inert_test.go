package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestINJ_TextsOfStrangersAreInertInATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"Grüße, 世界":             "Grüße, 世界",
		"\x1b[2J\x1b]0;owned\a": `\u{1b}[2J\u{1b}]0;owned\u{7}`,
		"a\nb\r\tc":             `a\u{a}b\u{d}\u{9}c`,
		"user\u202egpj.exe":     `user\u{202e}gpj.exe`,
		"a\u200bb\ufeff":        `a\u{200b}b\u{feff}`,
		"\u009b31m":             `\u{9b}31m`,
		"bad \xff\xfe":          `bad \xff\xfe`,
		"a\u2028b\u00a0c":       `a\u{2028}b\u{a0}c`,
	} {
		if got := inert(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	if got := short(strings.Repeat("ü", 300)); got != strings.Repeat("ü", shortMax)+"…" {
		t.Errorf("a long value is shown as %q", got)
	}
}

func FuzzInert(f *testing.F) {
	for _, seed := range []string{"", "\x1b[0m", "\u202e", "\xff", "a b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		shown := inert(text)
		if !utf8.ValidString(shown) || strings.ContainsFunc(shown, harmful) {
			t.Errorf("%q is shown as %q", text, shown)
		}
		if inert(shown) != shown {
			t.Errorf("%q is not shown as itself", shown)
		}
	})
}

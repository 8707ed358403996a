package policy

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// AUD-15: secrets in a query never enter an input, hence no policy, record or replay.
func TestAUD15SecretParametersAreRedacted(t *testing.T) {
	secrets := DefaultSecrets.With("Api-Key", "pin")
	for query, want := range map[string]string{
		"":                              "",
		"q=1":                           "q=1",
		"token=abc":                     "token=[redacted]",
		"a=1&token=abc&b=2":             "a=1&token=[redacted]&b=2",
		"TOKEN=abc":                     "TOKEN=[redacted]",
		"tok%65n=abc":                   "tok%65n=[redacted]",
		"access_token=a=b=c":            "access_token=[redacted]",
		"token=a&token=b":               "token=[redacted]&token=[redacted]",
		"a=1;password=x;b=2":            "a=1;password=[redacted];b=2",
		"api-key=x&PIN=1":               "api-key=[redacted]&PIN=[redacted]",
		"user[password]=x&tokens[]=y":   "user[password]=[redacted]&tokens[]=y",
		"token[]=x":                     "token[]=[redacted]",
		"token":                         "token",
		"token=":                        "token=",
		"%zz=abc":                       "%zz=[redacted]",
		"+token+=abc":                   "+token+=[redacted]",
		"monkey=1&passwords=2&keyboard": "monkey=1&passwords=2&keyboard",
		"&&=&":                          "&&=&",
	} {
		if got := secrets.RedactQuery(query); got != want {
			t.Errorf("RedactQuery(%q) = %q, want %q", query, got, want)
		}
	}
}

func TestHeadersAreAllowListedAndRedacted(t *testing.T) {
	h := http.Header{
		"Accept": {"a", "b"}, "X-Token": {"t"}, "Token": {"secret"}, "Cookie": {"c"}, "Authorization": {"Bearer x"}, "X-Other": {"o"},
	}
	got := DefaultSecrets.Headers(h, []string{"Accept", "x-token", "Token", "Cookie", "Authorization", "X-Missing"})
	want := map[string]string{"accept": "a, b", "x-token": "t", "token": Redacted}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

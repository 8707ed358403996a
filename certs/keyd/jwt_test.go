package keyd

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const testKid = "kid-of-the-key"

var testNow = time.Unix(1_700_000_000, 0)

// signingInput encodes header and claims as a careful client would.
func signingInput(header, claims string) string {
	e := base64.RawURLEncoding.EncodeToString
	return e([]byte(header)) + "." + e([]byte(claims))
}

const goodHeader = `{"alg":"ES256","typ":"JWT","kid":"` + testKid + `"}`

var testAssertion = AssertionConfig{
	Issuer:    "https://auth.corp.example",
	Audiences: []Audience{"https://*.corp.example", "https://wiki.other.example:8443"},
}

func TestAssertionsAreOurs(t *testing.T) {
	claims := func(edit string) string {
		m := map[string]any{
			"iss": "https://auth.corp.example", "aud": "https://wiki.corp.example", "sub": "corp|alice",
			"iat": 1_700_000_000, "exp": 1_700_000_060, "groups": []string{"staff"},
		}
		var changes map[string]any
		if err := json.Unmarshal([]byte(edit), &changes); err != nil {
			t.Fatal(err)
		}
		for k, v := range changes {
			if m[k] = v; v == "delete" {
				delete(m, k)
			}
		}
		b, _ := json.Marshal(m)
		return string(b)
	}
	good := claims(`{}`)
	for _, tt := range []struct{ name, input, refusal string }{
		{"good", signingInput(goodHeader, good), ""},
		{"audience in a list", signingInput(goodHeader, claims(`{"aud":["https://wiki.corp.example"]}`)), ""},
		{"audience with a port", signingInput(goodHeader, claims(`{"aud":"https://wiki.other.example:8443"}`)), ""},
		{"five minutes", signingInput(goodHeader, claims(`{"exp":1700000300}`)), ""},
		{"clock 30 s behind", signingInput(goodHeader, claims(`{"iat":1700000030}`)), ""},

		{"more than five minutes", signingInput(goodHeader, claims(`{"exp":1700000301}`)), "exp must be"},
		{"exp before iat", signingInput(goodHeader, claims(`{"exp":1700000000}`)), "exp must be"},
		{"exp huge", signingInput(goodHeader, claims(`{"exp":9223372036854775807}`)), "exp must be"},
		{"exp a fraction", signingInput(goodHeader, claims(`{"exp":1700000060.5}`)), "exp must be"},
		{"exp a string", signingInput(goodHeader, claims(`{"exp":"1700000060"}`)), "exp must be"},
		{"exp null", signingInput(goodHeader, claims(`{"exp":null}`)), "exp must be"},
		{"no exp", signingInput(goodHeader, claims(`{"exp":"delete"}`)), "exp must be"},
		{"no iat", signingInput(goodHeader, claims(`{"iat":"delete"}`)), "iat must be"},
		{"for next week", signingInput(goodHeader, claims(`{"iat":1700600000,"exp":1700600060}`)), "iat must be"},
		{"from last week", signingInput(goodHeader, claims(`{"iat":1699400000,"exp":1699400060}`)), "iat must be"},
		{"another issuer", signingInput(goodHeader, claims(`{"iss":"https://login.corp.example"}`)), "iss is not"},
		{"no issuer", signingInput(goodHeader, claims(`{"iss":"delete"}`)), "iss is not"},
		{"no subject", signingInput(goodHeader, claims(`{"sub":""}`)), "sub is missing"},
		{"foreign audience", signingInput(goodHeader, claims(`{"aud":"https://evil.example"}`)), "aud must be"},
		{"audience two labels deep", signingInput(goodHeader, claims(`{"aud":"https://a.b.corp.example"}`)), "aud must be"},
		{"audience with a path", signingInput(goodHeader, claims(`{"aud":"https://wiki.corp.example/x"}`)), "aud must be"},
		{"two audiences", signingInput(goodHeader, claims(`{"aud":["https://wiki.corp.example","https://pay.corp.example"]}`)), "aud must be"},
		{"no audience", signingInput(goodHeader, claims(`{"aud":[]}`)), "aud must be"},
		{"audience null", signingInput(goodHeader, claims(`{"aud":null}`)), "aud must be"},

		{"alg none", signingInput(`{"alg":"none","typ":"JWT","kid":"`+testKid+`"}`, good), "alg must be"},
		{"another kid", signingInput(`{"alg":"ES256","typ":"JWT","kid":"x"}`, good), "kid must be"},
		{"another typ", signingInput(`{"alg":"ES256","typ":"logout+jwt","kid":"`+testKid+`"}`, good), "typ must be"},
		{"a jku", signingInput(`{"alg":"ES256","typ":"JWT","kid":"`+testKid+`","jku":"https://evil.example"}`, good), "the header must be"},
		{"member twice", signingInput(goodHeader, `{"iss":"https://auth.corp.example","iss":"x"}`), "twice"},
		{"member twice in another case", signingInput(goodHeader, strings.Replace(good, `"iss"`, `"ISS":"x","iss"`, 1)), "twice"},
		{"member twice with a long s", signingInput(goodHeader, strings.Replace(good, `"iss"`, `"iſs":"x","iss"`, 1)), "twice"},
		{"member twice with a sign for kelvin", signingInput(goodHeader, strings.Replace(good, `"iss"`, `"k":1,"\u212a":2,"iss"`, 1)), "twice"},
		{"a thousand members", signingInput(goodHeader, manyMembers(1000)), "too many"},
		{"something behind the object", signingInput(goodHeader, good+`{}`), "not one JSON"},
		{"a list", signingInput(goodHeader, `[]`), "not one JSON"},
		{"nothing", "", "not a JWT"},
		{"one part", "abc", "not a JWT"},
		{"three parts", signingInput(goodHeader, good) + ".c2ln", "not base64url"},
		{"padding", signingInput(goodHeader, good) + "=", "not base64url"},
		{"a line break", signingInput(goodHeader, good) + "\n", "not base64url"},
		{"not UTF-8", signingInput(goodHeader, "{\"iss\":\"\xff\"}"), "not UTF-8"},
		{"a CertificateVerify", serverSide.certificateVerify() + strings.Repeat("x", 32), "not base64url"}, // of "TLS 1.3": it has a dot
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkRefusal(t, checkAssertion(&testAssertion, testKid, testNow, []byte(tt.input)), tt.refusal)
		})
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%d":1`, i)
	}
	return "{" + b.String()[1:] + "}"
}

func checkRefusal(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil && want != "" {
		t.Errorf("accepted, want a refusal with %q", want)
	}
	if err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %q, want %q", err, want)
	}
	if _, ok := err.(refusal); err != nil && !ok {
		t.Errorf("got a %T, want a refusal", err)
	}
}

func TestClientAssertionsAreOurs(t *testing.T) {
	const token = "https://login.corp.example/token"
	claims := func(iss, sub, aud, jti string) string {
		return fmt.Sprintf(`{"iss":%q,"sub":%q,"aud":%s,"jti":%q,"iat":1700000000,"exp":1700000060}`, iss, sub, aud, jti)
	}
	for _, tt := range []struct{ name, claims, refusal string }{
		{"good", claims("sallyport", "sallyport", `"`+token+`"`, "1"), ""},
		{"both audiences", claims("sallyport", "sallyport", `["`+token+`","https://login.corp.example"]`, "1"), ""},
		{"another client", claims("x", "x", `"`+token+`"`, "1"), "client id"},
		{"on behalf of somebody", claims("sallyport", "alice", `"`+token+`"`, "1"), "client id"},
		{"another provider", claims("sallyport", "sallyport", `"https://evil.example/token"`, "1"), "aud is not"},
		{"another provider as well", claims("sallyport", "sallyport", `["`+token+`","https://evil.example"]`, "1"), "aud is not"},
		{"no jti", claims("sallyport", "sallyport", `"`+token+`"`, ""), "jti is missing"},
		{"too long", strings.Replace(claims("sallyport", "sallyport", `"`+token+`"`, "1"), "0060}", "0301}", 1), "exp must be"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkClientAssertion("sallyport", []string{token, "https://login.corp.example"}, testKid, testNow,
				[]byte(signingInput(goodHeader, tt.claims)))
			checkRefusal(t, err, tt.refusal)
		})
	}
	newTyp := strings.Replace(goodHeader, "JWT", "client-authentication+jwt", 1)
	err := checkClientAssertion("sallyport", []string{token}, testKid, testNow,
		[]byte(signingInput(newTyp, claims("sallyport", "sallyport", `"`+token+`"`, "1"))))
	checkRefusal(t, err, "")
}

// FuzzAssertion: whatever is accepted says, to any JSON reader, what the rules demand; and it is the only spelling of
// its bytes. KEY-09.
func FuzzAssertion(f *testing.F) {
	good := `{"iss":"https://auth.corp.example","aud":"https://wiki.corp.example","sub":"a","iat":1700000000,"exp":1700000060}`
	f.Add(signingInput(goodHeader, good))
	f.Add(signingInput(goodHeader, strings.Replace(good, `"sub"`, `"Sub":1,"sub"`, 1)))
	f.Add(signingInput(goodHeader, `{"aud":["https://wiki.corp.example"]}`))
	f.Add(serverSide.certificateVerify() + strings.Repeat("x", 32))
	f.Add(clientSide.certificateVerify() + strings.Repeat("x", 48))
	f.Fuzz(func(t *testing.T, input string) {
		if checkAssertion(&testAssertion, testKid, testNow, []byte(input)) != nil {
			return
		}
		if serverSide.check([]byte(input)) == nil || clientSide.check([]byte(input)) == nil {
			t.Fatal("accepted for two purposes")
		}
		head, body, _ := strings.Cut(input, ".")
		header, err1 := base64.RawURLEncoding.DecodeString(head)
		payload, err2 := base64.RawURLEncoding.DecodeString(body)
		if err1 != nil || err2 != nil || signingInput(string(header), string(payload)) != input {
			t.Fatalf("accepted in a spelling that is not canonical: %q", input)
		}
		var c struct {
			Iss, Sub string
			Iat, Exp int64
		}
		if err := json.Unmarshal(payload, &c); err != nil {
			t.Fatalf("accepted, but %v", err)
		}
		if c.Iss != testAssertion.Issuer || c.Sub == "" || c.Exp-c.Iat > 300 || c.Exp <= c.Iat {
			t.Fatalf("accepted %s", payload)
		}
		var h map[string]string
		if err := json.Unmarshal(header, &h); err != nil || !reflect.DeepEqual(h, map[string]string{"alg": "ES256", "typ": "JWT", "kid": testKid}) {
			t.Fatalf("accepted header %s", header)
		}
	})
}

func TestAudiences(t *testing.T) {
	for a, ok := range map[string]bool{
		"https://wiki.corp.example": true, "https://wiki.corp.example:8443": true, "https://*.corp.example:8443": true,
		"http://wiki.corp.example": false, "https://wiki.corp.example/": false, "https://wiki.corp.example:443": false,
		"https://Wiki.corp.example": false, "https://*": false, "https://*.": false, "https://a.*.example": false,
		"https://*.*.example": false, "https://wiki.corp.example:": false, "https://wiki.corp.example:08": false,
		"https://user@wiki.corp.example": false, "https://": false, "": false, "https://wiki..example": false,
	} {
		if got := Audience(a).valid(); got != ok {
			t.Errorf("%q: got valid %v, want %v", a, got, ok)
		}
	}
	for _, tt := range []struct {
		pattern, origin string
		want            bool
	}{
		{"https://*.corp.example:8443", "https://wiki.corp.example:8443", true},
		{"https://*.corp.example:8443", "https://wiki.corp.example", false},
		{"https://*.corp.example", "https://corp.example", false},
		{"https://*.corp.example", "https://.corp.example", false},
		{"https://*.corp.example", "https://*.corp.example", false},
		{"https://*.corp.example", "https://evil.example/.corp.example", false},
		{"https://*.corp.example", "https://evil@wiki.corp.example", false},
		{"https://*.corp.example", "https://a.b.corp.example", false},
		{"https://*.corp.example", "HTTPS://wiki.corp.example", false},
		{"https://wiki.corp.example", "https://wiki.corp.example", true},
		{"https://wiki.corp.example", "https://WIKI.corp.example", false},
	} {
		if got := Audience(tt.pattern).matches(tt.origin); got != tt.want {
			t.Errorf("%q matches %q: got %v, want %v", tt.pattern, tt.origin, got, tt.want)
		}
	}
}

package oidc

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"
)

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// Whatever single thing changes in a provider's good answer, the same person signs in or the sign-in fails with a code.
// A change is one of a bit of the token as it travels, or of one claim that the provider signs.
func TestOneChangeInAGoodAnswerSignsInTheSamePersonOrNobody(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS"))
	if err != nil {
		rounds = 1500
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	e := newEnemy(t)
	p := discoveredProvider(t, e.idp, nil)
	good := mustSignIn(t, p)
	found := p.found.Load()

	kept, lost := 0, map[Code]int{}
	for range rounds {
		f := p.NewFlow()
		claims := jwt.MapClaims{"iss": e.idp.Issuer, "aud": "sallyport", "sub": "alice-1", "nonce": f.Nonce, "sid": "s",
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "email": "alice@corp.example", "email_verified": true,
			"groups": []string{"staff", "wiki"}, "name": "Alice"}
		token, subject := mutate(random, e, claims)
		said, failure := p.readToken(t.Context(), found, tokenAnswer(token))
		if failure == nil && said.nonce != f.Nonce {
			failure = fail(NonceMismatch, "as Finish would say")
		}
		if failure != nil {
			if failure.Code == "" {
				t.Fatalf("%q failed without a code", token)
			}
			lost[failure.Code]++
			continue
		}
		kept++
		said.groups, said.groupsIncomplete = p.groups(said.claims)
		result, failure := p.result(said, tokenAnswer(token))
		if failure == nil && (result.Identity.Subject != subject || result.Identity.Provider != good.Identity.Provider) {
			t.Fatalf("%q signed in %s, the provider signed %q", token, result.Identity.ID(), subject)
		}
	}
	if kept == 0 || len(lost) < 5 {
		t.Errorf("%d signed in, failures %v: the changes are not diverse", kept, lost)
	}
}

// mutate makes a token out of claims with one change, and says of whom the provider's signature speaks.
func mutate(random *rand.Rand, e *enemy, claims jwt.MapClaims) (token, subject string) {
	if random.IntN(2) == 0 {
		return flip(random, e.key.Sign(claims)), "alice-1"
	}
	names := slices.Sorted(maps.Keys(claims))
	name := names[random.IntN(len(names))]
	values := []any{nil, "", "root", 0, -1, 1e300, true, []any{}, []any{"root", "sallyport"}, map[string]any{"x": 1}, "alice-1\x00", time.Now().Add(time.Hour).Unix()}
	switch value := values[random.IntN(len(values))]; random.IntN(4) {
	case 0:
		delete(claims, name)
	case 1:
		claims[string(name[0]-32)+name[1:]] = value // beside it, in another case
	case 2:
		data, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		return e.raw(twice(name, string(data), random.IntN(2) == 0))(claims), "alice-1"
	default:
		claims[name] = value
	}
	subject, _ = claims["sub"].(string)
	return e.key.Sign(claims), subject
}

// flip changes, drops or doubles one byte, in the text or in what it encodes.
func flip(random *rand.Rand, token string) string {
	text := []byte(token)
	i := random.IntN(len(text))
	switch random.IntN(3) {
	case 0:
		text[i] ^= 1 << random.IntN(8)
	case 1:
		text = slices.Delete(text, i, i+1)
	default:
		text = slices.Insert(text, i, text[i])
	}
	return string(text)
}

// The mutant of the test above: a reader that takes the last of two members, as most do, signs in somebody else.
func TestReadersThatTakeTheLastMemberAreFooled(t *testing.T) {
	e := newEnemy(t)
	token := e.raw(twice("sub", `"root"`, false))(jwt.MapClaims{"sub": "alice-1"})
	var claims struct{ Sub string }
	payload, err := base64.RawURLEncoding.DecodeString(token[len(e.rawHeaderText())+1 : len(token)-87])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Sub != "root" {
		t.Fatalf("%v, %q", err, claims.Sub)
	}
	var exactly map[string]any
	if err := unambiguous(payload, &exactly); err == nil {
		t.Error("two subs were read as one")
	}
}

func (e *enemy) rawHeaderText() string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"` + e.key.ID + `"}`))
}

func tokenAnswer(idToken string) *oauth2.Token {
	return (&oauth2.Token{AccessToken: "access-1"}).WithExtra(map[string]any{"id_token": idToken})
}

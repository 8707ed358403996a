package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// covered says which tests stand for each known way to attack sign-ins, tokens, cookies, redirects and revocation: the
// packages that must name the id, each with a test that must be there. One that is taken away fails here.
const covered = `
	OIDC-01  authn/oidc TestOIDC01StateOfAnotherSignInIsRefusedBeforeAnyCall, gateway/signin TestOIDC01CallbackWithoutStateSendsNoTokenRequest, test TestHostileProviderSignsNobodyIn
	OIDC-02  gateway/signin TestOIDC02CallbackOfAnotherBrowserIsRefused, test TestHostileReplayOfACallback
	OIDC-03  authn/oidc TestOIDC03ReplayedCodeIsRefused, gateway/signin TestOIDC03ReplayedCallbackSignsInOnce, test TestHostileReplayOfACallback
	OIDC-04  authn/oidc TestIDTokensThatAreNotForThisSignInAreRefused, test TestHostileProviderSignsNobodyIn
	OIDC-05  authn/oidc TestOIDC05SwappedVerifierIsRefused
	OIDC-08  gateway/signin TestOIDC08SessionIsNewAtSignIn
	OIDC-09  gateway/signin TestOIDC09TabsFinishInAnyOrder
	OIDC-11  authn/oidc TestOIDC11ProviderErrorsAreReportedByStandardCodeOnly, gateway/signin TestOIDC11ProviderErrorIsAFixedPage, test TestHostileProviderSignsNobodyIn
	OIDC-13  authn/oidc TestOIDC13DiscoveryOfAnotherIssuerIsRefused, test TestHostileDiscovery
	OIDC-15  authn/oidc TestOIDC15HostileAnswersFailClosed, test TestHostileProviderSignsNobodyIn
	OIDC-16  authn/oidc TestOIDC16SameAddressIsNotTheSamePerson, test TestTheSameAddressAtAnotherProviderIsSomebodyElse
	OIDC-18  authn TestEmailDomain, authn/oidc TestOIDC18AddressesAreVerifiedOnlyByAProviderThatMayVouch
	OIDC-20  authn/oidc TestGroupsAreReadWhereTheyAre, test TestUnknownGroupsRefuse
	OIDC-22  authn/session TestRenewalIsSeenAndOnlyOneWins, test/oidcpeer TestGatewayRefreshesOnceForManyTabs, test TestTwoGatewaysRefreshOnce
	OIDC-23  test/oidcpeer TestGatewayFollowsGroups
	OIDC-25  test/oidcpeer TestGatewayTakesLogoutsOfTheProvider
	OIDC-28  gateway/signin TestOIDC28TokensAreNeverShown
	OIDC-29  authn/session TestHandOffIsBoundToHostAndBrowser, gateway/signin TestOIDC29HandOffIsBoundToTheBrowserThatStarted
	JWT-01   test TestMachinesShowTokensOfIssuers
	JWT-02   test TestMachinesShowTokensOfIssuers
	JWT-03   test TestMachinesShowTokensOfIssuers
	JWT-05   test TestMachinesShowTokensOfIssuers, authn/oidc TestKeysNamedByATokenAreNotUsed
	JWT-06   test TestMachinesShowTokensOfIssuers, authn/oidc TestKeysNamedByATokenAreNotUsed
	JWT-08   test TestMachinesShowTokensOfIssuers
	JWT-11   test TestMachinesShowTokensOfIssuers
	JWT-14   test TestMachinesShowTokensOfIssuers
	JWT-19   test TestMachinesShowTokensOfIssuers
	JWT-20   test TestMachinesShowTokensOfIssuers
	JWT-21   test TestMachinesShowTokensOfIssuers
	JWT-22   test TestMachinesShowTokensOfIssuers
	JWT-23   test TestMachinesShowTokensOfIssuers
	JWT-24   test TestMachinesShowTokensOfIssuers
	JWT-25   test TestMachinesShowTokensOfIssuers
	JWT-26   test TestMachinesShowTokensOfIssuers
	JWT-27   test TestMachinesShowTokensOfIssuers
	JWT-30   test TestMachinesShowTokensOfIssuers
	JWT-36   test TestMachinesFollowTheIssuersKeys, authn/oidc TestRotatedKeysAreFollowed
	JWT-39   test TestMachinesShowTokensOfIssuers
	COOK-01  gateway/canon TestCookiesOfTheGatewayStayWithTheGateway, test/threats TestThreats
	COOK-02  gateway/canon TestCookiesOfTheGatewayStayWithTheGateway, test/threats TestThreats
	COOK-03  gateway/canon TestCookiesOfTheGatewayStayWithTheGateway, test/threats TestThreats
	COOK-04  gateway/canon TestCookiesOfTheGatewayStayWithTheGateway, test/threats TestThreats
	COOK-05  gateway/canon TestCookiesOfTheGatewayStayWithTheGateway, test/threats TestThreats
	COOK-13  gateway/canon TestThousandsOfCookiesAreRefusedQuickly, test/threats TestThreats
	COOK-15  gateway/signin TestCOOK15CookieAttributes, gateway/headers TestCookiesOfAppsAreHardened, test/threats TestThreats
	COOK-16  test/threats TestThreats
	COOK-18  gateway TestTrailersOfAppsAreCleaned, gateway/headers TestAppsCannotReplaceTheSession, test TestHostileApp, test/threats TestThreats
	COOK-21  test TestClientOverPlainHTTPIsLedToHTTPS, test/threats TestThreats
	REDIR-01 gateway/signin TestREDIRNoStepLeavesTheConfiguredHosts, test/threats TestThreats
	REDIR-02 gateway/signin TestREDIRNoStepLeavesTheConfiguredHosts, test/threats TestThreats
	REDIR-04 gateway/signin TestREDIRNoStepLeavesTheConfiguredHosts, test/threats TestThreats
	REDIR-06 gateway/signin TestREDIRNoStepLeavesTheConfiguredHosts, test/threats TestThreats
	REDIR-09 gateway/signin TestREDIR09ForwardingHeadersChangeNoAddress, test/threats TestThreats
	WS-01    test TestStreamForeignPagesCannotOpenWebSockets
	WS-02    test TestStreamForbiddenPathsOpenNoWebSockets
	WS-03    gateway/canon TestConnectionTakesAwayNothingThatIsJudged, test TestStreamForeignPagesCannotOpenWebSockets
	WS-04    authn/session TestEveryEndIsFeltByEveryKeeper, test TestRevokedPeopleLoseWhatTheyHaveOpen
	REV-01   authn/session TestEveryEndIsFeltByEveryKeeper, test TestRevokedPeopleLoseWhatTheyHaveOpen, test TestTwoGatewaysForgetASession
	REV-02   gateway TestUploadEndsWithItsSession, test TestRevocationCutsWhatIsInFlight
	REV-05   authn/session TestBusySessionEndsAtTheAbsoluteLimit, test TestSessionsEndAtTheAbsoluteLimit
`

// plays says whose cases a package plays: they count as its own.
var plays = map[string]string{"test/threats": "test/rawhttp"}

// uncovered holds a table against the module below root, and names what is not there.
func uncovered(root, table string) (missing []string) {
	look := onceEach(testsOf)
	for line := range strings.Lines(strings.TrimSpace(table)) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		for entry := range strings.SplitSeq(rest, ",") {
			dir, test, _ := strings.Cut(strings.TrimSpace(entry), " ")
			tests, text := look(filepath.Join(root, dir))
			if other := plays[dir]; other != "" {
				text += textOf(filepath.Join(root, other, "*.go"))
			}
			if !slices.Contains(tests, test) {
				missing = append(missing, fmt.Sprintf("%s: %s has no %s", id, dir, test))
			}
			if !strings.Contains(text, id) {
				missing = append(missing, fmt.Sprintf("%s: %s does not name it", id, dir))
			}
		}
	}
	return missing
}

// onceEach remembers what was found in each folder.
func onceEach(find func(dir string) ([]string, string)) func(dir string) ([]string, string) {
	type found struct {
		tests []string
		text  string
	}
	known := map[string]found{}
	return func(dir string) ([]string, string) {
		f, seen := known[dir]
		if !seen {
			f.tests, f.text = find(dir)
			known[dir] = f
		}
		return f.tests, f.text
	}
}

// testsOf are a folder's tests, and the text of their files; this one, which names every id, is none of them.
func testsOf(dir string) (tests []string, text string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
	for _, path := range files {
		if filepath.Base(path) == "coverage_test.go" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err.Error()
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				tests = append(tests, f.Name.Name)
			}
		}
		text += textOf(path)
	}
	return tests, text
}

func textOf(pattern string) string {
	var b strings.Builder
	files, _ := filepath.Glob(pattern)
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		b.Write(data)
	}
	return b.String()
}

func TestEveryKnownAttackOnSignInIsATest(t *testing.T) {
	for _, problem := range uncovered("..", covered) {
		t.Error(problem)
	}
}

// The control: what is not there is noticed.
func TestAnAttackWithoutItsTestIsNoticed(t *testing.T) {
	for table, want := range map[string]string{
		"OIDC-01 authn/oidc TestOIDC01StateOfAnotherSignInIsRefusedBeforeAnyCall": "",
		"OIDC-01 authn/oidc TestThatNobodyWrote":                                  "OIDC-01: authn/oidc has no TestThatNobodyWrote",
		"OIDC-99 authn/oidc TestOIDC01StateOfAnotherSignInIsRefusedBeforeAnyCall": "OIDC-99: authn/oidc does not name it",
		"OIDC-99 test TestHostileDiscovery":                                       "OIDC-99: test does not name it",
		"COOK-16 test/threats TestThreats":                                        "",
	} {
		if got := strings.Join(uncovered("..", table), "; "); got != want {
			t.Errorf("%s: got %q, want %q", table, got, want)
		}
	}
}

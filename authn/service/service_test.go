package service

import (
	"errors"
	"strings"
	"testing"
)

func TestCertificateIsOfTheAccountOfWhichAllHolds(t *testing.T) {
	print := strings.Repeat("ab", 32)
	accounts, err := New([]Account{
		{Name: "uri", Certificate: Certificate{URI: "spiffe://corp/backup"}, Groups: []string{"b", "a"}},
		{Name: "both", Certificate: Certificate{DNSName: "Backup.corp", Subject: "CN=x"}},
		{Name: "print", Certificate: Certificate{Fingerprint: strings.ToUpper("AB:" + print[2:])}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		shown Shown
		name  string
		err   error
	}{
		{Shown{URIs: []string{"spiffe://corp/other", "spiffe://corp/backup"}}, "uri", nil},
		{Shown{URIs: []string{"spiffe://corp/backup/x"}}, "", nil},
		{Shown{DNSNames: []string{"backup.corp"}, Subject: "CN=x"}, "both", nil},
		{Shown{DNSNames: []string{"backup.corp"}, Subject: "CN=y"}, "", nil},
		{Shown{DNSNames: []string{"*.corp"}, Subject: "CN=x"}, "", nil},
		{Shown{Fingerprint: print}, "print", nil},
		{Shown{}, "", nil},
		{Shown{Fingerprint: print, URIs: []string{"spiffe://corp/backup"}}, "", ErrAmbiguous},
	} {
		if name, err := accounts.Find(tt.shown); name != tt.name || !errors.Is(err, tt.err) {
			t.Errorf("%+v: %q, %v, want %q, %v", tt.shown, name, err, tt.name, tt.err)
		}
	}
	if who := accounts.All()["uri"]; who.ID() != "certificate|uri" || strings.Join(who.Groups, " ") != "a b" {
		t.Errorf("%+v", who)
	}
}

func TestAccountsThatEverybodyOrNobodyCouldBe(t *testing.T) {
	for name, a := range map[string]Account{
		"everybody": {Name: "a"}, "name": {Name: "A|b", Certificate: Certificate{URI: "x"}}, "print": {Name: "a", Certificate: Certificate{Fingerprint: "abc"}},
	} {
		if a.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (Account{Name: "a", Certificate: Certificate{URI: "x"}}).Check(); err != nil {
		t.Error(err)
	}
}

package main

import (
	"net/http"
	"time"

	"sallyport/cmd/demo/apps"
	"sallyport/cmd/demo/provider"
)

// password is everybody's.
const password = "sallyport"

// people are who can sign in.
func people() []provider.Person {
	cast := []provider.Person{
		{Username: "ines", Name: "Ines Okafor", Groups: []string{"staff"}, About: "engineer: the wiki, not the payroll"},
		{Username: "ravi", Name: "Ravi Menon", Groups: []string{"staff", "finance"}, About: "accountant: the payroll too"},
		{Username: "lena", Name: "Lena Vogt", Groups: []string{"staff", "audit"}, About: "auditor: of the payroll, the reports"},
		{Username: "tomas", Name: "Tomás Rivera", Groups: []string{"contractors"}, About: "contractor: reads the wiki"},
		{Username: "noor", Name: "Noor Haddad", Groups: []string{}, About: "new: no group, so no app"},
	}
	for i := range cast {
		cast[i].Password = password
		cast[i].Email = cast[i].Username + "@harbour.example"
	}
	return cast
}

// app is an app of the demo and its access rules, as sallyport.yaml has them.
type app struct {
	Name, Title, Description, Owner, Sensitivity string
	Access                                       []string
	Who                                          string // the rules, for people
	handler                                      func(*apps.Gatekeeper) http.Handler
}

func appList() []app {
	return []app{
		{
			Name: "wiki", Title: "Wiki", Description: "Handbook and runbooks, with a chat on the side.", Owner: "ines@harbour.example",
			Access:  []string{"{ methods: [GET, HEAD], groups: [staff, contractors] }", "{ groups: [staff] }"},
			Who:     "staff; contractors read",
			handler: func(gate *apps.Gatekeeper) http.Handler { return apps.NewWiki(gate, time.Now) },
		},
		{
			Name: "payroll", Title: "Payroll", Description: "Salaries, the month's run and its reports.", Owner: "ravi@harbour.example", Sensitivity: "high",
			Access:  []string{"{ paths: [/reports/], methods: [GET, HEAD], groups: [audit, finance] }", "{ paths: [/runs], groups: [finance], mfa: true }", "{ groups: [finance] }"},
			Who:     "finance, with a second factor to approve a run; audit reads /reports/",
			handler: func(gate *apps.Gatekeeper) http.Handler { return apps.NewPayroll(gate, time.Now) },
		},
		{
			Name: "inspect", Title: "Inspect", Description: "What an app receives through the gateway.", Owner: "ines@harbour.example",
			Access:  []string{"{ groups: [staff, contractors] }"},
			Who:     "staff, contractors",
			handler: apps.NewInspect,
		},
	}
}

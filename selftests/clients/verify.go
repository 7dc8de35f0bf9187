// SPDX-License-Identifier: GPL-2.0

// Verifies a report with go-sev-guest: verify SERVICE PRODUCT REPORT. Its requests to AMD's key service go to SERVICE,
// an http:// address, and the root that it trusts is that of SERVICE; all else is the library's.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
)

type service string

func (s service) Get(url string) ([]byte, error) {
	url = strings.Replace(url, "https://kdsintf.amd.com", string(s), 1)
	answer, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	fmt.Println(strings.TrimPrefix(url, string(s)))
	return io.ReadAll(answer.Body)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	kds, product := service(os.Args[1]), os.Args[2]
	report, err := os.ReadFile(os.Args[3])
	check(err)
	chain, err := kds.Get("https://kdsintf.amd.com/vcek/v1/" + product + "/cert_chain")
	check(err)
	root := trust.AMDRootCertsProduct(product)
	check(root.FromKDSCertBytes(chain))
	options := &verify.Options{
		CheckRevocations: true,
		Getter:           kds,
		Now:              time.Now(),
		TrustedRoots:     map[string][]*trust.AMDRootCerts{product: {root}},
	}
	check(verify.RawSnpReport(report, options))
	fmt.Println("verified")
}

// SPDX-License-Identifier: GPL-2.0
//! The list of certificates that the root has revoked, which is empty.

use x509_cert::crl::{CertificateList, TbsCertList};
use x509_cert::der::asn1::BitString;
use x509_cert::der::Encode;
use x509_cert::Version;

use crate::certificate::{time, Error, Signer, NOT_AFTER, NOT_BEFORE};
use crate::Vendor;

impl Vendor {
    /// The list, signed by the root.
    pub fn crl(&self) -> Result<CertificateList, Error> {
        let signer = Signer::new(self.root_key())?;
        let body = TbsCertList {
            version: Version::V2,
            signature: signer.algorithm.clone(),
            issuer: self.name(&self.root())?,
            this_update: time(NOT_BEFORE)?,
            next_update: Some(time(NOT_AFTER)?),
            revoked_certificates: None,
            crl_extensions: None,
        };
        let message = body.to_der()?;
        let signed = signer.sign(&message)?;
        Ok(CertificateList {
            tbs_cert_list: body,
            signature_algorithm: signer.algorithm,
            signature: BitString::from_bytes(&signed)?,
        })
    }
}

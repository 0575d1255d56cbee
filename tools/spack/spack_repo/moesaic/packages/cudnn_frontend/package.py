# SPDX-License-Identifier: Apache-2.0

from spack_repo.builtin.build_systems.generic import Package

from spack.package import *


class CudnnFrontend(Package):
    """The C++ headers through which programs state cuDNN graphs. Spack has no package of them; NVIDIA publishes them in its
    Python package nvidia-cudnn-frontend, of which only the headers and the license are installed."""

    homepage = "https://github.com/NVIDIA/cudnn-frontend"

    license("MIT")

    # The version and the file that tools/cudnn_frontend.txt names; from 1.19 on the headers want libnvrtc too.
    version(
        "1.18.0",
        sha256="6c023539ca6de99234cf5102c3ec0d6af817f5396fc93028a22ba5b834a35b8a",
        url="https://files.pythonhosted.org/packages/c6/52/08f98262e77b1cbcc834cc1a5db494d0661ea1dbdea58c2e2d51a57fdaca/"
        "nvidia_cudnn_frontend-1.18.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        extension="zip",
    )

    depends_on("cudnn@9:", type=("build", "run"))

    def install(self, spec, prefix):
        install_tree("include", prefix.include)
        for text in find(f"nvidia_cudnn_frontend-{spec.version}.dist-info", "LICENSE*"):
            install(text, prefix)
